"""Files as people have them: each gives the right table or one clear sentence."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from tables_kit import tables


def write(directory: Path, content: str | bytes, name: str = "t.csv", encoding: str = "utf-8") -> Path:
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


PLAIN = "name,amount,day\nAnn,1.5,2024-01-01\nBob,2.5,2024-01-02\nCid,,2024-01-03\n"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators(tmp_path: Path, separator: str) -> None:
    df = tables.load(write(tmp_path, PLAIN.replace(",", separator)))
    assert list(df.columns) == ["name", "amount", "day"]
    assert df["amount"].tolist()[:2] == [1.5, 2.5]
    assert df["amount"].isna().sum() == 1
    assert df.attrs["separator"] == separator


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    text = "Straße,Größe\nMüllerstraße,1\nÖkoweg,2\nCafé à la crème,3\n"
    df = tables.load(write(tmp_path, text, encoding=encoding))
    assert list(df.columns) == ["Straße", "Größe"]
    assert df["Straße"].tolist() == ["Müllerstraße", "Ökoweg", "Café à la crème"]


@pytest.mark.parametrize(
    ("encoding", "word"),
    [
        ("cp932", "東京都港区の売上高"),
        ("gb18030", "北京市的销售总额数据"),
        ("cp1251", "Москва и область"),
        ("cp1250", "Łódź, gęsina i żółwie w Krakowie"),
        ("cp1250", "Příbram, kůň a déšť, měřič"),
    ],
)
def test_other_scripts(tmp_path: Path, encoding: str, word: str) -> None:
    text = "place;amount\n" + f"{word};1\n" * 30
    df = tables.load(write(tmp_path, text, encoding=encoding))
    assert df["place"][0] == word
    assert any("not UTF-8" in note for note in df.attrs["notes"])


def test_a_legacy_byte_far_into_the_file(tmp_path: Path) -> None:
    content = ("city,n\n" + "Rome,1\n" * 200_000 + "Köln,2\n").encode("cp1252")
    df = tables.load(write(tmp_path, content))
    assert df["city"].iloc[-1] == "Köln"
    assert len(df) == 200_001


def test_quoted_newlines_and_separators(tmp_path: Path) -> None:
    text = 'id,text\n1,"two\nlines, and a comma"\n2,"a ""quoted"" word"\n3,plain\n'
    df = tables.load(write(tmp_path, text))
    assert df["text"].tolist() == ["two\nlines, and a comma", 'a "quoted" word', "plain"]


def test_decimal_commas(tmp_path: Path) -> None:
    text = "Artikel;Preis;Menge;Datum\nA;1.234,50;1;31.12.2023\nB;0,99;2;01.01.2024\nC;12,00;3;02.01.2024\n"
    df = tables.load(write(tmp_path, text))
    assert df["Preis"].tolist() == [1234.5, 0.99, 12.0]
    assert df["Menge"].tolist() == [1, 2, 3]
    cleaned, _ = tables.clean(df)
    assert cleaned["Datum"][0] == pd.Timestamp("2023-12-31")


def test_grouped_thousands(tmp_path: Path) -> None:
    text = 'city,people,share\nA,"1,234,567","1,200.5"\nB,"98,765",3.25\nC,12,1\n'
    df = tables.load(write(tmp_path, text))
    assert df["people"].tolist() == [1234567, 98765, 12]
    assert df["share"].tolist() == [1200.5, 3.25, 1.0]


def test_text_with_commas_in_a_semicolon_file(tmp_path: Path) -> None:
    text = "name;place\nDoe, Jane;Paris, France\nRoe, Ann;Rome, Italy\nPoe, Max;Oslo, Norway\n"
    df = tables.load(write(tmp_path, text))
    assert df["place"].tolist()[1] == "Rome, Italy"


def test_preamble_and_comments(tmp_path: Path) -> None:
    text = "# exported 2024-05-01\nSales report, second quarter\n\nregion,units,price\nN,1,2.5\nS,2,3.5\nW,3,4.5\n"
    df = tables.load(write(tmp_path, text))
    assert list(df.columns) == ["region", "units", "price"]
    assert df["units"].sum() == 6
    assert any("skipped" in note for note in df.attrs["notes"])


def test_no_header(tmp_path: Path) -> None:
    df = tables.load(write(tmp_path, "1,Ann,3.5\n2,Bob,4.5\n3,Cid,5.5\n"))
    assert list(df.columns) == ["column_1", "column_2", "column_3"]
    assert len(df) == 3
    assert any("no header" in note for note in df.attrs["notes"])


def test_years_as_header(tmp_path: Path) -> None:
    df = tables.load(write(tmp_path, "country,2010,2011,2012\nA,1.5,2.5,3.5\nB,4.5,5.5,6.5\n"))
    assert list(df.columns) == ["country", "2010", "2011", "2012"]


def test_numbers_as_header_beside_an_empty_corner(tmp_path: Path) -> None:
    df = tables.load(write(tmp_path, ',"0","1","2"\na,3,4,5\nb,6,7,8\n'))
    assert list(df.columns) == ["column_1", "0", "1", "2"]


def test_columns_aligned_by_blanks(tmp_path: Path) -> None:
    df = tables.load(write(tmp_path, "Chins Situps  Jumps\n  5   162    60\n 12   101   101\n"))
    assert df["Jumps"].tolist() == [60, 101]
    prose = tables.load(write(tmp_path, "note\nwe met at 5\nthey left at 7\nall went well\n"))
    assert prose.shape == (3, 1)


def test_duplicate_and_empty_names(tmp_path: Path) -> None:
    df = tables.load(write(tmp_path, "a,a,,b c \n1,2,3,4\n5,6,7,8\n"))
    assert list(df.columns) == ["a", "a.1", "column_3", "b c"]


def test_ragged_rows_keep_everything(tmp_path: Path) -> None:
    df = tables.load(write(tmp_path, "a,b,c\n1,2,3\n4,5\n6,7,8,9\n10,11,12\n"))
    assert df["extra_1"].dropna().tolist() == [9]
    assert df["c"].isna().sum() == 1
    assert len(df) == 4


def test_a_long_row_beyond_the_sample(tmp_path: Path) -> None:
    text = "a,b\n" + "1,2\n" * 300_000 + "3,4,5\n"
    df = tables.load(write(tmp_path, text))
    assert len(df) == 300_001
    assert df["extra_1"].dropna().tolist() == [5]


def test_row_names_of_r(tmp_path: Path) -> None:
    df = tables.load(
        write(tmp_path, '"mpg" "cyl"\n'.replace(" ", ",") + '"Mazda",21,6\n"Fiat",32.4,4\n"Lotus",30,4\n')
    )
    assert list(df.columns) == ["row", "mpg", "cyl"]
    assert df["mpg"].sum() == 83.4


def test_trailing_separator(tmp_path: Path) -> None:
    df = tables.load(write(tmp_path, "a,b,\n1,2,\n3,4,\n"))
    assert df["a"].tolist() == [1, 3]
    cleaned, done = tables.clean(df)
    assert list(cleaned.columns) == ["a", "b"]
    assert any("without any value" in sentence for sentence in done)


def test_leading_zeros_stay(tmp_path: Path) -> None:
    df = tables.load(write(tmp_path, "zip,n\n01067,1\n10115,2\n00123,3\n"))
    assert df["zip"].tolist() == ["01067", "10115", "00123"]


def test_a_quotation_mark_never_closed(tmp_path: Path) -> None:
    text = "item,size\n" + "plain,3\n" * 300 + '"5 inch,4\n' + "plain,3\n" * 300
    df = tables.load(write(tmp_path, text))
    assert len(df) == 601
    assert df["size"].sum() == 1804
    assert any("quotation mark" in note for note in df.attrs["notes"])


def test_one_column(tmp_path: Path) -> None:
    assert tables.load(write(tmp_path, "value\n1\n2\n3\n"))["value"].sum() == 6
    df = tables.load(write(tmp_path, "thought\nhello, world\nnothing\nyes, no, maybe\n"))
    assert df["thought"].tolist() == ["hello, world", "nothing", "yes, no, maybe"]


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_line_ends(tmp_path: Path, newline: str) -> None:
    df = tables.load(write(tmp_path, PLAIN.replace("\n", newline)))
    assert df.shape == (3, 3)


def test_gzip(tmp_path: Path) -> None:
    df = tables.load(write(tmp_path, gzip.compress(PLAIN.encode(), mtime=0), "t.csv.gz"))
    assert df.shape == (3, 3)


def test_words_read_as_missing_are_named(tmp_path: Path) -> None:
    df = tables.load(write(tmp_path, "damage,n\nNone,1\nMinor,2\nNone,3\n"))
    assert df["damage"].isna().sum() == 2
    assert any("“None”" in note for note in df.attrs["notes"])


RECORDS = [{"a": 1, "b": "x"}, {"a": 2, "b": None}, {"a": None, "b": "z"}]


@pytest.mark.parametrize(
    "value",
    [
        RECORDS,
        {"data": RECORDS, "meta": {"page": 1}},
        {"result": {"items": RECORDS}},
        {"a": [1, 2, None], "b": ["x", None, "z"]},
        {"a": {"0": 1, "1": 2, "2": None}, "b": {"0": "x", "1": None, "2": "z"}},
        [["a", "b"], [1, "x"], [2, None], [None, "z"]],
    ],
)
def test_json_shapes(tmp_path: Path, value: object) -> None:
    df = tables.load(write(tmp_path, json.dumps(value), "t.json"))
    assert list(df.columns) == ["a", "b"]
    assert df["a"].sum() == 3
    assert df["b"].isna().sum() == 1


def test_nested_json(tmp_path: Path) -> None:
    value = [{"id": 1, "who": {"name": "Ann", "tags": ["x", "y"]}}, {"id": 2, "who": {"name": "Bob", "tags": []}}]
    df = tables.load(write(tmp_path, json.dumps(value), "t.json"))
    assert df["who.name"].tolist() == ["Ann", "Bob"]
    assert df["who.tags"].tolist() == ['["x", "y"]', "[]"]


def test_json_lines(tmp_path: Path) -> None:
    text = "\n".join(json.dumps(record) for record in RECORDS)
    assert tables.load(write(tmp_path, text, "t.jsonl")).shape == (3, 2)
    df = tables.load(write(tmp_path, text + '\n{"a": 4, "b', "cut.jsonl"))
    assert df.shape == (3, 2)
    assert any("cut off" in note for note in df.attrs["notes"])


def workbook(path: Path, **sheets: list[list[object]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_workbook_with_a_title_and_sheets(tmp_path: Path) -> None:
    rows: list[list[object]] = [["Quarterly report"], [], ["region", "units"], ["N", 1], ["S", 2], ["W", None]]
    path = workbook(tmp_path / "b.xlsx", Sales=rows, Empty=[], Costs=[["x"], [1], [2]])
    df = tables.load(path)
    assert list(df.columns) == ["region", "units"]
    assert df["units"].sum() == 3
    assert tables.sheets(path) == ["Sales", "Costs"]
    assert tables.load(path, "Costs")["x"].tolist() == [1, 2]
    with pytest.raises(tables.TableError, match="no sheet “Nope”"):
        tables.load(path, "Nope")


def test_merged_title_row(tmp_path: Path) -> None:
    path = workbook(tmp_path / "b.xlsx", S=[["Title"], ["a", "b", "c"], [1, 2, 3], [4, 5, 6]])
    book = openpyxl.load_workbook(path)
    book["S"].merge_cells("A1:C1")
    book.save(path)
    assert list(tables.load(path).columns) == ["a", "b", "c"]


def test_content_wins_over_the_name(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    frame.to_parquet(tmp_path / "really.csv")
    df = tables.load(tmp_path / "really.csv")
    assert df["a"].sum() == 3
    assert any("parquet" in note for note in df.attrs["notes"])
    assert tables.load(write(tmp_path, PLAIN, "text.xlsx")).shape == (3, 3)
    assert tables.load(write(tmp_path, json.dumps(RECORDS), "json.csv")).shape == (3, 2)


def _zip(*members: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for member in members:
            archive.writestr(member, "hello")
    return stream.getvalue()


ENCRYPTED = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le") + bytes(600)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("e.csv", b"", "is empty"),
        ("blank.csv", b" \n\n\r\n", "is empty"),
        ("bom.csv", b"\xef\xbb\xbf\n", "is empty"),
        ("h.csv", b"a,b,c\n", "0 rows"),
        ("h.json", b"[]", "0 rows"),
        ("b.csv", bytes(range(256)) * 20, "binary"),
        ("p.csv", b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG picture"),
        ("d.csv", b"%PDF-1.7 something", "PDF document"),
        ("page.csv", b"\n<!DOCTYPE html><html><body>404</body></html>", "HTML page"),
        ("x.csv", b'<?xml version="1.0"?><a/>', "XML file"),
        ("w.docx", _zip("word/document.xml"), "Word document"),
        ("o.ods", _zip("mimetype", "content.xml"), "OpenDocument"),
        ("z.xlsx", _zip("a.txt"), "zip archive without a workbook"),
        ("cut.xlsx", b"PK\x03\x04 not really", "damaged"),
        ("lock.xlsx", ENCRYPTED, "protected by a password"),
        ("old.xls", b"\xd0\xcf\x11\xe0" + bytes(1200), "old Microsoft Office format"),
        ("bad.parquet", b"PAR1 and then nothing", "damaged Parquet"),
        ("bad.json", b'{"a": [1, 2', "not valid JSON"),
        ("bad.jsonl", b'{"a": 1}\n{"a": \n{"a": 3}\n', "line 2"),
        ("t.csv.gz", gzip.compress(PLAIN.encode(), mtime=0)[:40], "damaged"),
        ("one.json", b'"hello"', "single value|not a table|0 rows"),
    ],
)
def test_one_clear_sentence(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    with pytest.raises(tables.TableError, match=says) as caught:
        tables.load(write(tmp_path, content, name))
    message = str(caught.value)
    assert message.startswith(name)
    assert message.endswith(".")
    assert "\n" not in message


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(tables.TableError, match="is a directory"):
        tables.load(tmp_path)
    with pytest.raises(tables.TableError, match="There is no file"):
        tables.load(tmp_path / "gone.csv")


def test_json_numbers_in_quotes_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "quoted.json"
    path.write_text('[{"year": "1565", "code": "007", "mixed": "1"}, {"year": null, "code": "008", "mixed": "x"}]')
    frame = tables.load(path)
    assert frame["year"].sum() == 1565
    assert list(frame["code"]) == ["007", "008"]
    assert list(frame["mixed"]) == ["1", "x"]
