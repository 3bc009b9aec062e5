"""Text out of documents, for code in a sandbox: `import documents; documents.extract("uploads/paper.pdf")`.

Handles txt, md, html, pdf, docx, csv and json. What can't be read is refused with one clear sentence; what was left
out (pages, characters, pictures) is said in `notes`.
"""

from .extract import Extracted, Page, extract
from .ingest import ingest
from .kinds import Unreadable

__all__ = ["Extracted", "Page", "Unreadable", "extract", "ingest"]
