"""The real tables next to the checkout, and our own example: read, reckoned and drawn like pandas would."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from tables_kit import tables

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
NAMES = ["seattle-weather.csv", "us-employment.csv", "penguins.json", "birdstrikes.csv"]
PATHS = [SHARED / name for name in NAMES] + [ROOT / "examples" / "sales.csv"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_real_table(path: Path, tmp_path: Path) -> None:
    if not path.exists():
        pytest.skip(f"{path.name} is not here: the tables in ../shared/data are not part of the repository")
    expected = pd.read_csv(path) if path.suffix == ".csv" else pd.DataFrame(json.loads(path.read_text()))
    df = tables.load(path)
    profile = tables.profile(df)
    assert (profile["rows"], profile["columns_total"]) == expected.shape
    for column in profile["columns"]:
        series = expected[column["name"]]
        assert column["missing"] == series.isna().sum()
        assert column["distinct"] == series.nunique()
        for figure in ("min", "max", "mean", "median", "std", "sum") if "mean" in column else ():
            assert math.isclose(column[figure], getattr(series, figure)(), rel_tol=1e-12)
        for entry in column.get("top", []):
            assert entry["count"] == (series.astype("str") == entry["value"]).sum()
    cleaned, _ = tables.clean(df)
    found = tables.statistics(cleaned)
    for group in found["groups"]:
        theirs = cleaned.groupby(group["by"])[group["measure"]].sum()
        assert all(math.isclose(row["sum"], theirs[row["value"]], rel_tol=1e-12) for row in group["rows"])
    assert len(tables.charts(cleaned, tmp_path)) >= 4
