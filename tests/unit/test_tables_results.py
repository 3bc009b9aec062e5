"""Cleaning, roles, statistics and charts on small tables whose answers are known."""

from __future__ import annotations

import json
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tables_kit import tables


@pytest.fixture(autouse=True)
def _no_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def sales(rows: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    units = rng.integers(1, 20, rows)
    return pd.DataFrame(
        {
            "order_id": np.arange(1000, 1000 + rows),
            "date": pd.date_range("2024-01-01", periods=rows, freq="D").strftime("%Y-%m-%d"),
            "region": rng.choice(["North", "South", "East"], rows),
            "paid": rng.choice(["yes", "no"], rows),
            "units": units,
            "revenue": units * 9.5 + rng.normal(0, 3, rows).round(2),
            "comment": [f"order number {n} was sent by the usual carrier" for n in range(rows)],
        }
    )


def test_roles() -> None:
    assert tables.roles(sales()) == {
        "order_id": "identifier",
        "date": "date",
        "region": "category",
        "paid": "boolean",
        "units": "numeric",
        "revenue": "numeric",
        "comment": "text",
    }


def test_profile_of_every_kind() -> None:
    profile = tables.profile(sales())
    columns = {column["name"]: column for column in profile["columns"]}
    assert (columns["date"]["first"], columns["date"]["last"]) == ("2024-01-01", "2024-07-18")
    counts = sales()["region"].value_counts()
    assert {entry["value"]: entry["count"] for entry in columns["region"]["top"]} == counts.to_dict()
    assert columns["order_id"]["mean"] == sales()["order_id"].mean()


def test_a_dirty_column_of_numbers() -> None:
    values = [f"${n},500.25" for n in range(1, 40)] + ["see invoice"]
    cleaned, done = tables.clean(pd.DataFrame({"price": values}))
    assert cleaned["price"].sum() == pytest.approx(sum(n * 1000 + 500.25 for n in range(1, 40)))
    assert cleaned["price"].isna().sum() == 1
    assert "“see invoice”" in done[0]


@pytest.mark.parametrize(
    ("text", "number"),
    [("12 %", 12), ("(300)", -300), ("−5", -5), ("1'234.5", 1234.5), ("€ 7", 7), ("1.234,5", 1234.5), ("2e3", 2000)],
)
def test_numbers_as_people_write_them(text: str, number: float) -> None:
    cleaned, _ = tables.clean(pd.DataFrame({"x": [text, f"{text} ", text]}))
    assert cleaned["x"].tolist() == [number] * 3


def test_words_stay_words() -> None:
    frame = pd.DataFrame(
        {"answer": ["yes", "maybe", "3", "no idea", "12"], "code": ["007", "012", "100", "001", "002"]}
    )
    cleaned, done = tables.clean(frame)
    pd.testing.assert_frame_equal(cleaned, frame)
    assert done == ["Nothing needed cleaning."]


@pytest.mark.parametrize(
    ("texts", "first"),
    [
        (["31.12.2023", "01.01.2024", "02.01.2024"], "2023-12-31"),
        (["12/31/2023", "01/02/2024", "02/01/2024"], "2023-12-31"),
        (["31/12/2023", "01/02/2024", "02/01/2024"], "2023-12-31"),
        (["2023-12-31T10:00:00Z", "2024-01-01T10:00:00Z", "2024-01-02T11:30:00Z"], "2023-12-31 10:00"),
        (["Dec 31, 2023", "Jan 1, 2024", "Feb 2, 2024"], "2023-12-31"),
        (["31 December 2023", "1 January 2024", "2 May 2024"], "2023-12-31"),
        (["2023-12", "2024-01", "2024-02"], "2023-12-01"),
    ],
)
def test_dates(texts: list[str], first: str) -> None:
    cleaned, _ = tables.clean(pd.DataFrame({"when": texts}))
    assert cleaned["when"][0] == pd.Timestamp(first)
    assert cleaned["when"].notna().all()


def test_ambiguous_dates_are_left_alone() -> None:
    frame = pd.DataFrame({"when": ["01/02/2024", "03/04/2024", "05/06/2024"]})
    cleaned, done = tables.clean(frame)
    assert cleaned["when"].tolist() == frame["when"].tolist()
    assert "month/day" in done[0]


def test_versions_and_addresses_are_no_dates_or_numbers() -> None:
    frame = pd.DataFrame({"version": ["1.2.3", "1.10.0", "2.0.1"], "ip": ["10.0.0.1", "10.0.0.2", "10.0.0.3"]})
    cleaned, _ = tables.clean(frame)
    pd.testing.assert_frame_equal(cleaned, frame)


def test_duplicates_go_only_where_they_must_be_mistakes() -> None:
    with_key = pd.concat([sales(), sales().head(3)], ignore_index=True)
    cleaned, done = tables.clean(with_key)
    assert len(cleaned) == 200
    assert any("Dropped 3 row(s)" in sentence for sentence in done)
    without = pd.DataFrame({"answer": ["yes", "yes", "no"] * 20})
    kept, said = tables.clean(without)
    assert len(kept) == 60
    assert any("were kept" in sentence for sentence in said)
    assert len(tables.clean(without, drop_duplicates=True)[0]) == 2


def test_statistics_of_what_was_asked() -> None:
    cleaned, _ = tables.clean(sales())
    found = tables.statistics(cleaned, measure="units", by=["paid", "region"])
    assert [(group["measure"], group["by"]) for group in found["groups"][:2]] == [
        ("units", "paid"),
        ("units", "region"),
    ]
    with pytest.raises(tables.TableError, match="no column “colour”"):
        tables.statistics(cleaned, by="colour")
    with pytest.raises(tables.TableError, match="not numeric"):
        tables.statistics(cleaned, measure="region")


def test_a_period_covered_in_part_is_no_fall() -> None:
    days = pd.date_range("2024-01-01", "2024-06-04", freq="D")
    found = tables.statistics(
        pd.DataFrame({"day": days, "sales": np.full(len(days), 10.0) + np.arange(len(days)) % 7})
    )
    trend = found["trends"][0]
    assert trend["partial"] == ["2024-06"]
    assert trend["last"]["period"] == "2024-05"


def size(path: str | Path) -> tuple[int, int]:
    head = Path(path).read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def check_charts(made: list[dict[str, Any]], least: int = 2) -> None:
    assert least <= len(made) <= 6
    assert len({chart["path"] for chart in made}) == len(made)
    for chart in made:
        width, height = size(chart["path"])
        assert width > 500
        assert height > 250
        assert chart["title"]
        assert chart["caption"].endswith(".")
        assert chart["findings"]
    json.dumps(made)


ODD = {
    "only text": pd.DataFrame({"thought": [f"the {'very ' * (n % 9)}slow parcel number {n}" for n in range(40)]}),
    "one number": pd.DataFrame({"x": [1.0, 2.0, 5.0, 9.0, 3.0]}),
    "one category": pd.DataFrame({"answer": ["yes", "no", "maybe", "yes"] * 10, "other": ["a", "b", "c", "c"] * 10}),
    "only dates": pd.DataFrame({"day": pd.date_range("2024-01-01", periods=50), "who": ["a", "b"] * 25}),
    "two rows": pd.DataFrame({"name": ["a", "b"], "value": [1, 2]}),
    "chinese": pd.DataFrame({"城市": ["北京", "上海", "广州"] * 10, "销售额": np.arange(30) * 1.5}),
    "dollars": pd.DataFrame({"cost $": np.arange(30.0), "price $": np.arange(30.0) ** 2, "k$": ["$a$", "$b$"] * 15}),
    "long names": pd.DataFrame({"x" * 200: ["y" * 300, "z" * 300] * 20, "w" * 150: np.arange(40.0)}),
    "infinite": pd.DataFrame({"a": [1.0, np.inf, 3.0, 4.0] * 10, "b": ["x", "y"] * 20}),
    "huge": pd.DataFrame({"a": [1e300, 2e300, 3e-300, 4.0] * 10, "b": ["x", "y"] * 20}),
    "many groups": pd.DataFrame({"g": [f"g{n % 50}" for n in range(500)], "v": np.arange(500.0)}),
    "booleans": pd.DataFrame({"a": [True, False, True] * 10, "v": range(30)}),
    "all missing": pd.DataFrame({"a": [None, None, 1.0] * 5, "b": [None] * 15, "c": ["x", "y", None] * 5}),
    "zones": pd.DataFrame({"t": pd.date_range("2024-01-01", periods=60, tz="Europe/Berlin"), "v": range(60)}),
    "years": pd.DataFrame({"year": list(range(1990, 2020)), "population": np.arange(30) * 7 + 3}),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_tables(tmp_path: Path, name: str) -> None:
    frame, _ = tables.clean(ODD[name])
    json.dumps(tables.profile(frame))
    json.dumps(tables.statistics(frame))
    check_charts(tables.charts(frame, tmp_path / "charts"))


def test_too_little_to_draw(tmp_path: Path) -> None:
    with pytest.raises(tables.TableError, match="fewer than two rows"):
        tables.charts(pd.DataFrame({"a": [1], "b": ["x"]}), tmp_path)
    with pytest.raises(tables.TableError, match="no column holds values that vary"):
        tables.charts(pd.DataFrame({"a": [1, 1, 1]}), tmp_path)


def test_names_no_font_can_draw_get_a_key(tmp_path: Path) -> None:
    frame = pd.DataFrame({"k": ["\U00012000\U00012001", "plain"] * 20, "v": np.arange(40.0)})
    made = tables.charts(frame, tmp_path, by="k")
    assert made[0]["title"] == "Mean of v by k"
    bar = next(chart for chart in made if chart["kind"] == "bar")
    assert "‹1› = \U00012000\U00012001" in bar["caption"]


def test_sales_charts(tmp_path: Path) -> None:
    frame, _ = tables.clean(sales())
    made = tables.charts(frame, tmp_path / "charts", prefix="shop")
    check_charts(made, 4)
    assert {"time line", "bar", "histogram", "scatter"} <= {chart["kind"] for chart in made}
    assert all(Path(chart["path"]).name.startswith("shop-") for chart in made)


def test_json_is_bounded_and_says_what_is_left_out() -> None:
    long = {"rows": [{"text": "x" * 50, "n": n} for n in range(5000)], "name": "t"}
    text = tables.to_json(long, 20_000)
    assert len(text) <= 20_000
    value = json.loads(text)
    assert value["left_out"]["rows"] == 5000 - len(value["rows"])
    assert json.loads(tables.to_json({"x": float("nan"), "t": pd.Timestamp("2024-01-02")})) == {
        "x": None,
        "t": "2024-01-02",
    }
