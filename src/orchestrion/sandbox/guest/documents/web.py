"""Text of an HTML page: its main text by trafilatura, or all of its text where that finds too little."""

from __future__ import annotations

import importlib
import re

from .kinds import Unreadable

_NO_TEXT = ("script", "style", "noscript", "template", "svg", "head")
_BLOCK_ENDS = (
    "p",
    "div",
    "br",
    "li",
    "tr",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "section",
    "article",
    "pre",
    "dt",
    "dd",
)
_SPACES = re.compile(r"[^\S\n]+")
_LITTLE = 200


def read_html(markup: str, name: str) -> tuple[str, str, list[str]]:
    """Return the title, the text and notes.

    Raises:
        Unreadable: There is no text in it.
    """
    markup = markup.replace("\0", "")
    whole, title = _whole(markup, name)
    main = _main(markup)
    if main and len(main) >= min(_LITTLE, len(whole) * 0.5):
        return title, main, []
    if not whole:
        raise Unreadable(f"{name} is a web page without text; it may need a browser to show any.")
    return title, whole, ["The main text could not be told from the rest of the page, so all of it is here."]


def _main(markup: str) -> str:
    from trafilatura import extract

    try:
        return extract(markup, favor_recall=True, include_comments=False, include_tables=True) or ""
    except (ValueError, TypeError, AttributeError, RecursionError):
        return ""


def _whole(markup: str, name: str) -> tuple[str, str]:
    html = importlib.import_module("lxml.html")
    etree = importlib.import_module("lxml.etree")
    try:
        # An encoding named in the markup is void by now: this is text already.
        tree = html.document_fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", markup))
    except (etree.LxmlError, ValueError, AssertionError) as error:
        raise Unreadable(f"{name} is a web page that can't be parsed.") from error
    title = " ".join((tree.findtext(".//title") or tree.findtext(".//h1") or "").split())
    for node in list(tree.iter(*_NO_TEXT)):
        if node.getparent() is not None:
            node.drop_tree()
    for node in tree.iter(*_BLOCK_ENDS):
        node.tail = "\n" + (node.tail or "")
    for node in tree.iter("td", "th"):
        node.tail = " | " + (node.tail or "")
    lines = (_SPACES.sub(" ", line).strip(" |") for line in str(tree.text_content()).split("\n"))
    return "\n".join(line for line in lines if line), title
