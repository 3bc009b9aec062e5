"""What code written for notebooks takes for granted: `display`, `IPython.display`, figures and pictures that show."""

from __future__ import annotations

import builtins
import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeAlias

from . import display as showing

Show: TypeAlias = "Callable[[showing.Bundle], None]"

_SEEDS = "/opt/orchestrion/matplotlib-cache"
_SHIMS = ("IPython", "IPython.core", "IPython.core.display", "IPython.core.display_functions", "IPython.display")


class Notebook:
    """Makes an interpreter one that notebook code feels at home in. Nothing is imported for it ahead of time.

    Args:
        show: Takes what is displayed.
    """

    def __init__(self, show: Show) -> None:
        self._show = show

    def install(self) -> None:
        """Set it up; modules that are imported already are adapted at once, others when they are."""
        builtins.display = self.display  # type: ignore[attr-defined]
        adapt: dict[str, Callable[[ModuleType], None]] = {
            "matplotlib.pyplot": self._adapt_pyplot,
            "PIL.Image": self._adapt_pictures,
            "IPython.display": self._adapt_ipython,
            "IPython.core.display_functions": self._adapt_ipython,
        }
        for name in [name for name in adapt if name in sys.modules]:
            adapt.pop(name)(sys.modules[name])
        sys.meta_path.insert(0, _Watch(adapt))
        sys.meta_path.append(_Shims(self.display))

    def display(self, *values: object, raw: bool = False, **_options: object) -> None:
        """Show values now, before the cell ends.

        Args:
            values: What to show.
            raw: They are dictionaries from media type to data already.
        """
        for value in values:
            self._show(dict(value) if raw else showing.bundle_of(value))  # type: ignore[call-overload]
            if showing.is_managed(value):
                showing.close_figure(value)

    def _adapt_pyplot(self, pyplot: ModuleType) -> None:
        def show(*_args: object, **_options: object) -> None:
            for bundle in showing.figures():
                self._show(bundle)

        pyplot.show = show  # type: ignore[attr-defined]

    def _adapt_pictures(self, module: ModuleType) -> None:
        picture: Any = module.Image
        save = picture.save

        def save_and_show(image: object, fp: object, *args: object, **options: object) -> None:
            save(image, fp, *args, **options)
            # What a cell itself saves by name; matplotlib saves its figures this way too, and those show anyway.
            if isinstance(fp, (str, os.PathLike)) and sys._getframe(1).f_globals.get("__name__") == "__main__":
                self.display(image)

        picture.save = save_and_show
        picture.show = lambda image, *_args, **_options: self.display(image)

    def _adapt_ipython(self, module: ModuleType) -> None:
        module.display = self.display  # type: ignore[attr-defined]


class _Watch(MetaPathFinder):
    """Calls back once a module has been imported."""

    def __init__(self, callbacks: dict[str, Callable[[ModuleType], None]]) -> None:
        self._callbacks = callbacks

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == "matplotlib":
            _seed_fonts()
        callback = self._callbacks.get(name)
        if callback is None:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Watched(spec.loader, callback)
                return spec
        return None


class _Watched(Loader):
    def __init__(self, loader: Any, callback: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._callback = callback

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._callback(module)


class _Shims(MetaPathFinder, Loader):
    """Stands in for IPython where that isn't installed: the last finder asked."""

    def __init__(self, display: Callable[..., None]) -> None:
        self._display = display

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=name in ("IPython", "IPython.core")) if name in _SHIMS else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(
            version_info=(9, 0, 0, ""),
            __version__="9.0.0",
            get_ipython=lambda: None,
            display=self._display,
            update_display=self._display,
            clear_output=lambda wait=False: None,
            **{name: _document(name, mime) for name, mime in _DOCUMENTS.items()},
        )


_DOCUMENTS = {
    "HTML": "text/html",
    "Markdown": "text/markdown",
    "Latex": "text/latex",
    "Math": "text/latex",
    "SVG": "image/svg+xml",
    "JSON": "application/json",
    "Javascript": "application/javascript",
    "Image": "image/png",
    "Pretty": "text/plain",
}


class _Document:
    """Data that says of itself what it is; from a file if one is named."""

    mime = "text/plain"

    def __init__(self, data: Any = None, url: str | None = None, filename: str | None = None, **_options: object):
        if filename is None and isinstance(data, (str, os.PathLike)) and type(self).__name__ == "Image":
            filename, data = os.fspath(data), None
        if filename is not None:
            with open(filename, "rb") as file:
                data = file.read()
        self.data = data
        self.url = url

    def _repr_mimebundle_(self, **_options: object) -> dict[str, object]:
        data, mime = self.data, self.mime
        if type(self).__name__ == "Math":
            data = f"$\\displaystyle {data}$"
        if mime == "image/png" and isinstance(data, bytes) and data.startswith(b"\xff\xd8"):
            mime = "image/jpeg"
        return {mime: data} if data is not None else {}


def _document(name: str, mime: str) -> type[_Document]:
    return type(name, (_Document,), {"mime": mime, "__module__": "IPython.core.display"})


def _seed_fonts() -> None:
    """Give matplotlib the list of fonts that was made with the image; to make it anew takes seconds."""
    place = os.environ.get("MPLCONFIGDIR") or os.path.expanduser("~/.cache/matplotlib")
    with contextlib.suppress(OSError):
        seeds = os.listdir(_SEEDS)
        os.makedirs(place, exist_ok=True)
        for name in seeds:
            if not os.path.exists(os.path.join(place, name)):
                shutil.copyfile(os.path.join(_SEEDS, name), os.path.join(place, name))
