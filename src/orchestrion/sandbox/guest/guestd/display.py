"""What a cell gave, in a form that travels: each value as a bundle of media types, bounded in size."""

from __future__ import annotations

import base64
import enum
import importlib
import io
import json
import math
import sys
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeAlias

MAX_TEXT = 200_000
MAX_BINARY = 5 * 1024 * 1024
MAX_JSON = 1_000_000
MAX_FIGURES = 50
_MAX_CELLS = 100_000
_MAX_DEPTH = 50

Bundle: TypeAlias = "dict[str, object]"

_FORMATS = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    "e2b/data": "data",
    "e2b/chart": "chart",
}
_BINARY = {"image/png", "image/jpeg", "application/pdf"}
_METHODS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
    "_repr_pdf_": "application/pdf",
    "_repr_latex_": "text/latex",
    "_repr_json_": "application/json",
    "_repr_javascript_": "application/javascript",
}

warnings.filterwarnings("ignore", message=".*non-interactive, and thus cannot be shown")


def shorten(text: str, limit: int = MAX_TEXT) -> str:
    """Cut the middle out of a long text, and say so."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def result_of(bundle: Mapping[str, object], *, main: bool) -> dict[str, object]:
    """Return a bundle as the wire's `result`.

    Args:
        bundle: Values by media type; bytes of a picture become base64, what is too big is left out.
        main: It is the cell's own value, not something that the cell displayed.
    """
    result: dict[str, object] = {"type": "result", "is_main_result": main}
    extra: dict[str, object] = {}
    for mime, value in bundle.items():
        packed = _packed(mime, value)
        if packed is None:
            continue
        if mime in _FORMATS:
            result[_FORMATS[mime]] = packed
        else:
            extra[mime] = packed
    return {**result, "extra": extra}


def _packed(mime: str, value: object) -> object:
    """Return one representation in JSON's types; None if it's too big or nothing."""
    if isinstance(value, bytes):
        # Text may come as bytes; a picture does as a rule.
        value = base64.b64encode(value).decode() if mime in _BINARY else value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return _bounded_json(value)
    if mime == "text/plain":
        return shorten(_unquoted(value))
    limit = MAX_BINARY * 4 // 3 + 4 if mime in _BINARY else MAX_TEXT
    return value if len(value) <= limit else None


def _unquoted(text: str) -> str:
    """Take the quotes off the repr of a text."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _bounded_json(value: object) -> object:
    try:
        plain = _plain(value, 0)
        return plain if plain is not None and len(json.dumps(plain)) <= MAX_JSON else None
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def _plain(value: object, depth: int) -> object:
    """Return a value in JSON's own types; numbers that JSON has no word for become null.

    Raises:
        TypeError: It holds something that JSON can't, or is nested too deep.
    """
    if depth > _MAX_DEPTH:
        raise TypeError("nested too deep")
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(_plain(key, depth + 1)): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    for method in ("tolist", "isoformat"):  # numpy's arrays and numbers; dates
        if hasattr(value, method):
            return _plain(getattr(value, method)(), depth + 1)
    raise TypeError(type(value).__name__)


def bundle_of(value: object) -> Bundle:
    """Return every representation that a value has, `text/plain` always among them."""
    bundle: Bundle = {"text/plain": _text(value)}
    if isinstance(value, (str, int, float, type(None))):
        return bundle
    if isinstance(value, (list, dict)):
        return {**bundle, "application/json": value} if _small(value) else bundle
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series)):
        return _table(value, pandas)
    figure = sys.modules.get("matplotlib.figure")
    if figure is not None and isinstance(value, figure.Figure):
        return {**bundle, **_drawn(value)}
    return {**bundle, **_own(value)}


def _small(value: list[object] | dict[object, object]) -> bool:
    return len(value) <= _MAX_CELLS


def _text(value: object) -> str:
    text = repr(value)
    return text if isinstance(text, str) else object.__repr__(value)


def _own(value: object) -> Bundle:
    """Return what a value says of itself by the methods that notebooks know."""
    if isinstance(value, type) or hasattr(value, "_no_object_answers_to_this_"):
        return {}
    bundle: Bundle = {}
    for method, mime in _METHODS.items():
        data = _called(getattr(value, method, None))
        if data is not None:
            bundle[mime] = data
    whole = _called(getattr(value, "_repr_mimebundle_", None), include=None, exclude=None)
    return {**bundle, **whole} if isinstance(whole, dict) else bundle


def _called(method: Callable[..., Any] | None, **arguments: object) -> Any:
    """Call such a method; some return metadata too, and some fail for values that they aren't meant for."""
    if not callable(method):
        return None
    try:
        data = method(**arguments)
    except Exception:
        return None
    return data[0] if isinstance(data, tuple) and data else data


def _table(value: Any, pandas: ModuleType) -> Bundle:
    is_frame = isinstance(value, pandas.DataFrame)
    frame = value if is_frame else value.to_frame()
    with pandas.option_context("display.width", 160, "display.max_columns", 40):
        bundle: Bundle = {"text/plain": repr(value)}
    bundle["text/html"] = frame.to_html(max_rows=60, max_cols=40, show_dimensions=False, border=0)
    if is_frame and frame.size <= _MAX_CELLS and frame.columns.is_unique:
        bundle["e2b/data"] = {name: _column(items) for name, items in frame.to_dict(orient="list").items()}
    return bundle


def _column(items: list[object]) -> list[object]:
    return [_cell(item) for item in items]


def _cell(item: object) -> object:
    try:
        return _plain(item, 0)
    except (TypeError, ValueError):
        return str(item)


def is_managed(value: object) -> bool:
    """Say whether a value is a figure that pyplot has open."""
    figure = sys.modules.get("matplotlib.figure")
    if figure is None or not isinstance(value, figure.Figure):
        return False
    manager = getattr(value.canvas, "manager", None)
    return manager is not None and manager.num in _open_figures()


def close_figure(value: object) -> None:
    """Close a figure that pyplot has open."""
    sys.modules["matplotlib.pyplot"].close(value)


def _open_figures() -> list[int]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return list(pyplot.get_fignums()) if pyplot is not None else []


def figures() -> list[Bundle]:
    """Return every open figure, and close them all."""
    numbers = _open_figures()
    if not numbers:
        return []
    pyplot = sys.modules["matplotlib.pyplot"]
    try:
        return [bundle_of(pyplot.figure(number)) for number in numbers[:MAX_FIGURES]]
    except Exception as error:
        return [{"text/plain": f"[the figures could not be drawn: {type(error).__name__}: {error}]"}]
    finally:
        pyplot.close("all")


def _drawn(figure: Any) -> Bundle:
    try:
        for dpi in (figure.dpi, 72, 40):
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
            if buffer.tell() <= MAX_BINARY:
                return {"image/png": buffer.getvalue(), **_chart(figure)}
        problem = f"its image is larger than {MAX_BINARY // 1024 // 1024} MiB"
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    return {"text/plain": f"[a figure could not be drawn: {problem}]"}


def _chart(figure: Any) -> Bundle:
    """Return the figure's data, where E2B's package for that is installed and makes sense of it."""
    try:
        return {"e2b/chart": importlib.import_module("e2b_charts").chart_figure_to_dict(figure)}
    except Exception:
        return {}
