"""The documents toolkit, run as it is in a sandbox: by the sandbox's Python, on generated files."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from docx import Document
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

import orchestrion

GUEST = Path(orchestrion.__file__).parent / "sandbox" / "guest"
PYTHON = Path(sys.prefix) / "sandbox" / "bin" / "python"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="the sandbox's Python is not set up: run `make setup`")


def ingest(tmp_path: Path, *names: str, **extra: str) -> list[dict[str, Any]]:
    """Ingest files of `tmp_path` in one go and return their results in order."""
    files = [{"id": str(i), "path": str(tmp_path / name), **extra} for i, name in enumerate(names)]
    code = "import sys, json, documents; documents.ingest(json.loads(sys.argv[1]), sys.argv[2])"
    subprocess.run(
        [PYTHON, "-c", code, json.dumps(files), str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(GUEST)},
        check=True,
        timeout=110,
    )
    return [json.loads((tmp_path / "out" / f"{i}.json").read_text()) for i in range(len(names))]


def pdf(path: Path, pages: list[str], *, encrypt: StandardEncryption | None = None, title: str = "") -> None:
    canvas = Canvas(str(path), encrypt=encrypt)
    if title:
        canvas.setTitle(title)
    for page in pages:
        for number, line in enumerate(page.splitlines()):
            canvas.drawString(72, 770 - 16 * number, line)
        canvas.showPage()
    canvas.save()


def word(path: Path) -> None:
    document = Document()
    document.core_properties.title = "Yearly review"
    document.add_heading("Results", 1)
    document.add_paragraph("The café grew by 12 % — “well above plan”.")
    table = document.add_table(rows=2, cols=2)
    for row, cells in zip(table.rows, [["City", "Visitors"], ["Zürich", "1 204"]], strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    document.add_paragraph("After the table.")
    document.save(str(path))


def test_every_kind_is_read_in_one_call(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Grüße aus Köln.\r\nZweite Zeile.", encoding="utf-8")
    (tmp_path / "b.md").write_text("intro\n\n# The title #\n\nBody *text*.", encoding="utf-8")
    (tmp_path / "c.html").write_text(
        "<html><head><title>Page &amp; title</title><script>bad()</script></head><body><nav>Home</nav>"
        "<article><h1>News</h1><p>First paragraph of the page.</p></article></body></html>"
    )
    pdf(tmp_path / "d.pdf", ["First page text.", "Second page text."], title="A PDF")
    word(tmp_path / "e.docx")
    (tmp_path / "f.csv").write_text("a;b\n1;2\n")
    (tmp_path / "g.json").write_text('{"key": "wert"}')
    a, b, c, d, e, f, g = ingest(
        tmp_path, *[f"{n}" for n in ("a.txt", "b.md", "c.html", "d.pdf", "e.docx", "f.csv")], "g.json"
    )
    assert [r["kind"] for r in (a, b, c, d, e, f, g)] == ["txt", "md", "html", "pdf", "docx", "csv", "json"]
    assert a["text"] == "Grüße aus Köln.\nZweite Zeile."
    assert (b["title"], b["text"].startswith("intro")) == ("The title", True)
    assert c["title"] == "Page & title"
    assert "First paragraph of the page." in c["text"]
    assert "bad()" not in c["text"]
    assert d["title"] == "A PDF"
    assert d["text"] == "First page text.\n\nSecond page text."
    assert [d["text"][p["start"] :].split()[0] for p in d["pages"]] == ["First", "Second"]
    assert e["title"] == "Yearly review"
    assert "The café grew by 12 % — “well above plan”." in e["text"]
    assert "City | Visitors\nZürich | 1 204" in e["text"]
    assert e["text"].index("Zürich") < e["text"].index("After the table.")
    assert f["text"] == "a;b\n1;2"
    assert all(r["characters"] == len(r["text"]) for r in (a, b, c, d, e, f, g))


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8-sig", "Überschrift mit Byte-Marke, lang genug."),
        ("utf-16", "Широкий текст с меткой порядка байтов."),
        ("utf-16-le", "Wide text without any mark, but Latin script."),
        ("cp1252", "Der Käse kostet 5 € – sagt “er”, und die Brühe ist süß. Größe und Maß bleiben gleich."),
        ("cp1251", "Всё хорошо, и этот русский текст достаточно длинный, чтобы кодировка была угадана верно."),
        ("shift_jis", "これは日本語の文章です。文字コードを正しく推測できるはずです。東京は日本の首都です。"),
    ],
)
def test_text_is_read_in_its_encoding(tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    (result,) = ingest(tmp_path, "a.txt")
    assert result["text"] == text
    assert bool(result["notes"]) == (encoding in {"cp1252", "cp1251", "shift_jis"})


def test_a_declared_encoding_is_believed_but_not_against_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("żółw".encode("iso8859-2"))
    (tmp_path / "b.html").write_bytes(
        '<meta charset="iso-8859-2"><p>zażółć gęślą jaźń</p>'.encode("iso8859-2"),
    )
    assert ingest(tmp_path, "a.txt", charset="iso-8859-2")[0]["text"] == "żółw"
    assert "zażółć gęślą jaźń" in ingest(tmp_path, "b.html")[0]["text"]
    (tmp_path / "c.txt").write_text("žluťoučký kůň", encoding="utf-8")
    assert ingest(tmp_path, "c.txt", charset="latin-1")[0]["text"] == "žluťoučký kůň"


def _office_zip(path: Path, member: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, "<x/>")


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b" " * 300_000_000)


def _scan(path: Path) -> None:
    canvas = Canvas(str(path))
    canvas.rect(100, 100, 200, 200, fill=1)
    canvas.showPage()
    canvas.save()


def _encrypted_office(path: Path) -> None:
    path.write_bytes(
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le") + b"\0" * 600
    )


UNREADABLE = {
    "empty.txt": (lambda p: p.write_bytes(b""), "empty.txt is empty."),
    "blank.md": (lambda p: p.write_text(" \n\n "), "blank.md is empty."),
    "junk.txt": (lambda p: p.write_bytes(random.Random(1).randbytes(5000)), "holds binary data"),
    "junk.csv": (lambda p: p.write_bytes(bytes([1, 2, 3, 200, 201]) * 900), "holds binary data"),
    "photo.pdf": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 99), "it is a picture"),
    "locked.pdf": (
        lambda p: pdf(p, ["secret"], encrypt=StandardEncryption("user", "owner", strength=128)),
        "locked.pdf is protected by a password; remove the protection and upload it again.",
    ),
    "scan.pdf": (_scan, "has one page but no text: it is probably a scan"),
    "broken.pdf": (lambda p: p.write_bytes(b"%PDF-1.7\n" + b"garbage " * 200), "damaged PDF"),
    "locked.docx": (_encrypted_office, "protected by a password"),
    "broken.docx": (lambda p: p.write_bytes(b"PK\x03\x04" + b"garbage" * 100), "is damaged"),
    "bomb.docx": (_bomb, "unpacks to more than 256 MiB"),
    "odd.docx": (lambda p: _office_zip(p, "word/document.xml"), "without text"),
    "table.xlsx": (lambda p: _office_zip(p, "xl/workbook.xml"), "it is a spreadsheet, which data analysis can read"),
    "app.html": (lambda p: p.write_text("<html><body><script>x()</script></body></html>"), "web page without text"),
}


def test_what_can_t_be_read_gets_one_clear_sentence(tmp_path: Path) -> None:
    for name, (make, _) in UNREADABLE.items():
        make(tmp_path / name)
    results = ingest(tmp_path, *UNREADABLE, "missing.txt")
    for (name, (_, sentence)), result in zip(UNREADABLE.items(), results, strict=False):
        assert sentence in result["error"], name
        assert name in result["error"]
        assert result["error"].endswith("."), name
    assert results[-1]["error"] == "There is no file missing.txt."


def test_a_pdf_that_only_its_owner_restricts_is_read(tmp_path: Path) -> None:
    pdf(tmp_path / "a.pdf", ["Open to all readers."], encrypt=StandardEncryption("", "owner", strength=128))
    assert ingest(tmp_path, "a.pdf")[0]["text"] == "Open to all readers."


def test_long_documents_are_cut_and_say_so(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("Ein Satz mit Ü. " * 700_000, encoding="utf-8")
    pdf(tmp_path / "mixed.pdf", ["Words here.", "", "More words."])
    long, mixed = ingest(tmp_path, "long.txt", "mixed.pdf")
    assert mixed["title"] == "mixed"
    assert long["characters"] == 2_000_000
    assert any("Only the first 8 MB" in note for note in long["notes"])
    assert any("2,000,000 characters" in note for note in long["notes"])
    assert mixed["notes"] == ["1 of 3 pages have no text, they are probably pictures."]
    assert [page["page"] for page in mixed["pages"]] == [1, 3]


def test_control_characters_and_hostile_markup_do_not_pass(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One\x07 two\x00".replace("\x00", "") + "\u2028three \ud7ff")
    deep = "<div>" * 30_000 + "deep text in here" + "</div>" * 30_000
    (tmp_path / "b.html").write_text(f"<html><body>{deep}</body></html>")
    entities = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    with zipfile.ZipFile(tmp_path / "c.docx", "w") as archive:
        archive.writestr(
            "word/document.xml",
            f'{entities}<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
            "<w:body><w:p><w:r><w:t>Before &a; after</w:t></w:r></w:p></w:body></w:document>",
        )
    a, b, c = ingest(tmp_path, "a.txt", "b.html", "c.docx")
    assert "\x07" not in a["text"]
    assert "error" in b or "deep text" in b["text"]
    assert "root:" not in json.dumps(c)


def test_tracked_changes_read_as_accepted(tmp_path: Path) -> None:
    ns = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = (
        "<w:p><w:r><w:t>We agree to </w:t></w:r><w:del><w:r><w:delText>ten</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t>twelve</w:t></w:r></w:ins><w:r><w:t xml:space='preserve'> days.</w:t></w:r></w:p>"
    )
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr("word/document.xml", f'<w:document xmlns:w="{ns}"><w:body>{body}</w:body></w:document>')
    assert ingest(tmp_path, "a.docx")[0]["text"] == "We agree to twelve days."


def test_the_toolkit_reads_a_stream_made_by_office(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Document().save(buffer)
    (tmp_path / "blank.docx").write_bytes(buffer.getvalue())
    assert "without text" in ingest(tmp_path, "blank.docx")[0]["error"]
