"""Turns a report's parts into Markdown in which nothing that a model or a document wrote can act.

Titles and quotes are escaped; in running text Markdown stays, HTML doesn't, pictures are the workspace's own only,
and link destinations with a scheme other than http, https or mailto are cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from html import unescape
from pathlib import PurePosixPath
from urllib.parse import quote as percent_encode
from urllib.parse import unquote as percent_decode

_ONE = r"\[\[\s*\^?\d{1,4}(?:\s*[,;]\s*\d{1,4})*\s*\]\]"
_RUN = rf"{_ONE}(?:[ \t]*{_ONE})*"
_BARE_RUN = r"(?<![\w\]\[\\!])(?:\[\d{1,3}\])+(?![\[(\w])"
MARKERS = re.compile(rf"(?P<space>(?<![ \t])[ \t]*)(?P<run>{_RUN})")
"""`[[1]]`, `[[1, 2]]`, and runs of them."""
ANY_MARKERS = re.compile(rf"(?P<space>(?<![ \t])[ \t]*)(?P<run>{_RUN}|{_BARE_RUN})")
"""The same and plain `[1]`, except as an index, a link or its label."""
PICTURES = (".png", ".jpg", ".jpeg", ".svg", ".gif", ".webp")

_TAG = re.compile(r"<(?!https?://[^\s<>]*>)(?=[A-Za-z/!?])")
_IMAGE = re.compile(r"!\[([^\]]{0,1000})\]\(([^)]{0,2000})\)")
_IMAGE_BY_NAME = re.compile(r"!(\[[^\]]{0,1000}\](?!\())")
# What follows `](`, or the `]:` of a definition, which may stand in a quote or a list.
_DESTINATION = re.compile(
    r"(\]\(\s{0,100}<?|^[ \t>*+\-0-9.)]{0,40}\[(?:[^\]\\]|\\.){1,1000}\]:\s{0,100}<?)([^\s)>]*)", re.M
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_HARMLESS = re.compile(r"https?:|mailto:", re.IGNORECASE)
_CODE_SPAN = re.compile(r"(`+[^`]*`+)")
_CODE = re.compile(r"^\s{0,3}(`{3,}|~{3,}).*?^\s{0,3}\1[`~]*[ \t]*$|`[^`\n]{1,500}`", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^\s{0,3}(`{3,}|~{3,})")


def one_line(text: str, limit: int = 300) -> str:
    """Return a text as one line, cut at a limit."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def escape_title(text: str) -> str:
    """Return a title in which no Markdown link, picture or HTML is left."""
    line = re.sub(
        r"([\\`\[\]])", r"\\\1", one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    )
    return line.strip("# ") or "Untitled"


def escape_quote(text: str) -> str:
    """Return a quote that reads as it is written: only what could act is escaped."""
    text = re.sub(r"\](?=[(\[:])|(?<=!)\[", r"\\\g<0>", _TAG.sub("&lt;", text))
    return text.replace("`", "\\`")


def destination(path: str) -> str:
    """Return a workspace path as a link's destination."""
    return percent_encode(path, safe="/")


def link_to(origin: str) -> str:
    """Return where a source came from: a link for a URL, else the text."""
    if re.match(r"https?://", origin):
        return f"<{percent_encode(origin, safe=':/?#[]@!$&()*+,;=%~.-_')}>"
    return escape_quote(one_line(origin))


def caption(path: str) -> str:
    """Return a caption made from a picture's name: `charts/sales-by_month.png` is "Sales by month"."""
    words = re.sub(r"[-_\s]+", " ", PurePosixPath(path).stem).strip() or "Chart"
    return escape_title(words[:1].upper() + words[1:])


def without_code(markdown: str) -> str:
    """Return Markdown without its code blocks and spans."""
    return _CODE.sub("", markdown)


def safe_text(text: str, pictures: Collection[str], mark: Callable[[str], str]) -> tuple[str, list[str]]:
    """Return running Markdown made safe, and the pictures that were taken out of it.

    Args:
        text: As the model wrote it.
        pictures: Paths of pictures that exist.
        mark: Turns citation markers in a piece of prose into numbers.
    """
    lost: list[str] = []
    lines: list[str] = []
    prose: list[str] = []
    fence = ""

    def flush() -> None:
        if prose:
            lines.append(_safe_prose("\n".join(prose), pictures, mark, lost))
            prose.clear()

    for line in text.replace("\r\n", "\n").strip().split("\n"):
        found = _FENCE.match(line)
        if not fence and not found:
            prose.append(line)
            continue
        flush()
        lines.append(line)
        if found and not fence:
            fence = found.group(1)
        elif found and found.group(1).startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
    flush()
    # A code block left open would swallow the rest of the report.
    return "\n".join([*lines, fence] if fence else lines), lost


def _without_scheme(found: re.Match[str]) -> str:
    """Cut a destination that does anything but lead to a page; Markdown undoes escapes and entities, so do we."""
    plain = unescape(found.group(2)).replace("\\", "")
    leads_away = _SCHEME.match(re.sub(r"[\x00-\x20]", "", plain))
    return found.group(0) if not leads_away or _HARMLESS.match(plain) else f"{found.group(1)}#"


def _picture_path(inside: str) -> str:
    """Return the path in a picture's parentheses, without its angle brackets or title."""
    inside = inside.strip()
    path = inside[1:].partition(">")[0] if inside.startswith("<") else inside.split(" ")[0]
    return percent_decode(path).removeprefix("./")


def _safe_prose(text: str, pictures: Collection[str], mark: Callable[[str], str], lost: list[str]) -> str:
    def image(found: re.Match[str]) -> str:
        path = _picture_path(found.group(2))
        if path in pictures:
            return f"![{escape_title(found.group(1) or caption(path))}]({destination(path)})"
        lost.append(path)
        return found.group(1)

    pieces = _CODE_SPAN.split(text)
    for position in range(0, len(pieces), 2):
        piece = _IMAGE_BY_NAME.sub(r"\1", _IMAGE.sub(image, _TAG.sub("&lt;", pieces[position])))
        pieces[position] = mark(_DESTINATION.sub(_without_scheme, piece))
    return "".join(pieces)
