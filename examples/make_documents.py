"""Makes the two binary documents of the research example: a PDF and a Word file. Needs reportlab and python-docx."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from docx import Document
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import Flowable, PageBreak, Paragraph, SimpleDocTemplate, Spacer

FOLDER = Path(__file__).parent / "documents"

STUDY = [
    [
        ("Title", "Battery-electric ferry: feasibility study"),
        (
            "BodyText",
            "Prepared for the Harbour District Ferry Association, May 2022. The study and its figures are invented; "
            "they are an example.",
        ),
        ("Heading2", "1. The crossing"),
        (
            "BodyText",
            "The crossing is 1.9 kilometres long. At a speed of 6 metres per second the boat needs 58 kilowatt hours "
            "for a crossing in calm weather and 74 kilowatt hours with a headwind of 12 metres per second.",
        ),
        ("Heading2", "2. The battery"),
        (
            "BodyText",
            "A battery of 1,100 kilowatt hours is proposed. It is charged for four minutes at each landing with 1.2 "
            "megawatts, which gives back 80 kilowatt hours. The charge of the battery therefore stays between 55 and "
            "90 percent in normal service, and this narrow band is good for its lifetime.",
        ),
        (
            "BodyText",
            "The expected lifetime of the battery is ten years or 60,000 crossings, whichever comes first. At the "
            "end of it the battery still holds about 75 percent of its capacity and can be used on land as a buffer.",
        ),
    ],
    [
        ("Heading2", "3. The cost"),
        (
            "BodyText",
            "The ferry costs 4.6 million euros and the two charging stations 1.3 million euros. A new diesel ferry "
            "of the same size costs 2.9 million euros. With the regional grant of 40 percent the electric ferry is "
            "paid back in nine years.",
        ),
        ("Heading2", "4. The risks"),
        (
            "BodyText",
            "The greatest risk is the grid: the east quay has a connection of 400 kilowatts only, so that a buffer "
            "battery on land is needed there. The second risk is dependence on a single maker for spare parts.",
        ),
    ],
]


def make_study(path: Path) -> None:
    """Write the PDF."""
    styles = getSampleStyleSheet()
    flow: list[Flowable] = []
    for number, page in enumerate(STUDY):
        flow += [PageBreak()] if number else []
        for style, text in page:
            flow += [Paragraph(text, styles[style]), Spacer(1, 8)]
    title = "Battery-electric ferry: feasibility study"
    SimpleDocTemplate(str(path), pagesize=A4, title=title, author="Example", invariant=1).build(flow)


def make_note(path: Path) -> None:
    """Write the Word file."""
    note = Document()
    note.core_properties.title = "Recycling of ferry batteries: a note"
    note.core_properties.author = "Example"
    note.core_properties.created = note.core_properties.modified = datetime(2023, 5, 2)
    note.add_heading("Recycling of ferry batteries: a note", 0)
    note.add_paragraph(
        "This note and its figures are invented; they are an example. It was written for the board in May 2023."
    )
    note.add_heading("What happens after ten years", 1)
    note.add_paragraph(
        "When the battery is taken out of the ferry it goes first to the east quay, where it serves as a buffer for "
        "the charging station for about five more years."
    )
    note.add_paragraph(
        "After that the maker takes it back free of charge. The contract says that at least 90 percent of the nickel "
        "and cobalt and 70 percent of the lithium are recovered."
    )
    note.add_heading("What it costs", 1)
    rows = [("Step", "Year", "Euros"), ("Removal and transport", "2033", "38,000")]
    rows += [("Refitting as a buffer", "2033", "55,000"), ("Return to the maker", "2038", "0")]
    table = note.add_table(rows=0, cols=3, style="Table Grid")
    for row in rows:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    note.add_paragraph("The cost of removal and refitting is covered by the battery reserve.")
    note.save(str(path))


if __name__ == "__main__":
    make_study(FOLDER / "battery-study.pdf")
    make_note(FOLDER / "recycling-note.docx")
