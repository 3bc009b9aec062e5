"""One look for every chart, drawn without any window or global state, saved as PNG."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from .lettering import Letters, figure, fonts

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6B7280"  # from Okabe and Ito (2008): safe for the colour-blind
_STYLE: dict[str, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9CA3AF",
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.labelsize": 10.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E7EB",
    "grid.linewidth": 0.8,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.frameon": False,
    "text.parse_math": False,  # a $ in a column's name is a dollar
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in this look, leaving matplotlib's settings as they were; no warnings about layout or glyphs."""
    settings: dict[Any, Any] = {**_STYLE, "font.family": list(fonts()) or ["sans-serif"]}
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Canvas:
    """A figure with one set of axes and its letters."""

    def __init__(self, width: float = 9, height: float = 5) -> None:
        self.letters = Letters()
        self.figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(self.figure)
        self.axes: Axes = self.figure.add_subplot()
        self.heading = ""

    def title(self, text: str, x: str = "", y: str = "") -> None:
        """Set the title and the names of both axes."""
        self.heading = " ".join(text.split())[:200]
        self.axes.set_title(self.letters.label(text, 76))
        self.axes.set_xlabel(self.letters.label(x, 60) if x else "")
        self.axes.set_ylabel(self.letters.label(y, 48) if y else "")

    def save(self, path: Path) -> str:
        """Write the PNG and return its path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.figure.savefig(path, dpi=130)
        return path.as_posix()


def plain_numbers(axis: Any, *, whole: bool = False) -> None:
    """Write an axis' numbers with grouped digits, shortened where they are large; `whole` for counts."""
    axis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10], integer=whole))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def log_numbers(axis: Any) -> None:
    """Write a logarithmic axis' powers of ten as plain numbers."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_formatter(NullFormatter())


def short(value: float) -> str:
    """Shorten 1,200,000 to 1.2M."""
    for size, sign in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.4g}{sign}"
    return f"{value / 1e3:.4g}k" if abs(value) >= 1e4 else figure(float(f"{value:.6g}"))


def slug(text: str) -> str:
    """Make a plain file name."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:80] or "chart"
