"""Whatever the table and its format: what the toolkit reads and reckons is what pandas does."""

from __future__ import annotations

import csv
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tables_kit import tables

SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
WORDS = st.text(st.characters(codec="utf-8", categories=["L", "P", "S", "Zs"]), min_size=1, max_size=12)
TEXTS = WORDS.filter(lambda text: text.strip() == text and text.isprintable() and not text.isnumeric())
INTEGERS = st.integers(-(10**9), 10**9)
FLOATS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3))
COLUMNS = {"whole": INTEGERS, "measure": FLOATS, "label": TEXTS}


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """A key that is always there, a column of each kind, gaps in all but the first."""
    rows = draw(st.integers(3, 25))
    data: dict[str, list[Any]] = {"key": [f"row{n}" for n in range(rows)]}
    for name, values in COLUMNS.items():
        data[name] = draw(st.lists(st.one_of(values, st.none()), min_size=rows, max_size=rows))
    return pd.DataFrame(data)


def same(ours: Any, theirs: Any) -> bool:
    if ours is None or theirs is None or pd.isna(theirs):
        return ours is None or (isinstance(theirs, float) and math.isnan(theirs))
    return math.isclose(float(ours), float(theirs), rel_tol=1e-9, abs_tol=1e-9)


def check(path: Path, expected: pd.DataFrame) -> None:
    df = tables.load(path)
    profile = tables.profile(df)
    assert profile["rows"] == len(expected)
    assert [column["name"] for column in profile["columns"]] == list(expected.columns)
    for column in profile["columns"]:
        series = expected[column["name"]]
        assert column["count"] == series.count()
        assert column["missing"] == series.isna().sum()
        assert column["distinct"] == series.nunique()
        if pd.api.types.is_numeric_dtype(series.dtype) and series.notna().any():
            for figure in ("min", "max", "mean", "median", "std", "sum"):
                assert same(column[figure], getattr(series, figure)()), (column["name"], figure)
    json.loads(tables.to_json(profile))


@SETTINGS
@given(frame=frames(), separator=st.sampled_from([",", ";", "\t", "|"]))
def test_delimited(frame: pd.DataFrame, separator: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "t.csv"
        frame.to_csv(path, index=False, sep=separator, quoting=csv.QUOTE_MINIMAL)
        check(path, pd.read_csv(path, sep=separator, low_memory=False))


@SETTINGS
@given(frame=frames())
def test_json(frame: pd.DataFrame) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "t.json"
        frame.to_json(path, orient="records")
        check(path, pd.DataFrame(json.loads(path.read_text())))
        lines = Path(directory) / "t.jsonl"
        frame.to_json(lines, orient="records", lines=True)
        check(lines, pd.DataFrame(json.loads(path.read_text())))


@settings(SETTINGS, max_examples=15)
@given(frame=frames())
def test_workbook_and_parquet(frame: pd.DataFrame) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "t.xlsx"
        frame.to_excel(path, index=False)
        check(path, pd.read_excel(path))
        frame.to_parquet(Path(directory) / "t.parquet")
        check(Path(directory) / "t.parquet", pd.read_parquet(Path(directory) / "t.parquet"))


@SETTINGS
@given(frame=frames())
def test_cleaning_invents_and_loses_nothing(frame: pd.DataFrame) -> None:
    cleaned, done = tables.clean(frame)
    for name in cleaned.columns:
        if pd.api.types.is_numeric_dtype(frame[name].dtype):
            pd.testing.assert_series_equal(cleaned[name], frame[name])
    assert len(cleaned) == len(frame)
    again, second = tables.clean(cleaned)
    assert second == ["Nothing needed cleaning."]
    assert len(again) == len(cleaned)
    assert done


@SETTINGS
@given(
    values=st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(FLOATS, st.none())), min_size=30, max_size=60),
)
def test_groups_are_pandas_own(values: list[tuple[str, float | None]]) -> None:
    frame = pd.DataFrame(values, columns=["kind", "weight"])
    found = tables.statistics(frame, measure="weight", by="kind")["groups"] if frame["weight"].count() else []
    expected = frame.groupby("kind")["weight"].agg(["count", "sum", "mean", "median"])
    for row in found[0]["rows"] if found else []:
        for figure in ("count", "sum", "mean", "median"):
            assert same(row[figure], expected.loc[row["value"], figure])


def test_correlations_slopes_and_outliers() -> None:
    rng = np.random.default_rng(7)
    days = pd.date_range("2023-01-01", "2023-12-31", freq="D")
    base = rng.normal(50, 5, len(days))
    frame = pd.DataFrame({"day": days, "a": base, "b": 2 * base + rng.normal(0, 2, len(days))})
    frame.loc[10, "a"] = 500.0
    found = tables.statistics(frame, measure="a")
    pair = found["correlations"][0]
    assert same(pair["r"], frame["a"].corr(frame["b"]))
    assert pair["n"] == len(frame)
    trend = next(trend for trend in found["trends"] if trend["measure"] == "a" and trend["period"] == "month")
    monthly = frame.groupby(frame["day"].dt.to_period("M"))["a"].mean()
    assert same(trend["slope"], np.polyfit(range(12), monthly.to_numpy(), 1)[0])
    assert [point["value"] for point in trend["points"]] == pytest.approx(monthly.tolist())
    outliers = next(entry for entry in found["outliers"] if entry["column"] == "a")
    q1, q3 = frame["a"].quantile([0.25, 0.75])
    outside = frame["a"][(frame["a"] < q1 - 1.5 * (q3 - q1)) | (frame["a"] > q3 + 1.5 * (q3 - q1))]
    assert outliers["count"] == len(outside)
    assert outliers["extremes"][0] == 500.0
