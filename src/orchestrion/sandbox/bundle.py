"""What is put into a sandbox: the guest daemon with the libraries it needs, as a directory or as one archive.

Both are made once per content and kept in a cache, so that a sandbox only has to mount them.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import shutil
import tempfile
import zipapp
from collections.abc import Iterator
from pathlib import Path

_GUEST = Path(__file__).parent / "guest"
_OURS = ("guestd", "tables", "documents")
_LIBRARIES = ("h11", "python_multipart")
_LEFT_OUT = frozenset(("__pycache__", "py.typed", "tests"))
_DIGITS = 16


def payload_dir(cache: Path) -> Path:
    """Return a directory for a guest's `sys.path`: guestd, tables, documents, h11 and python_multipart.

    Everybody may read it, and nobody is to write to it.

    Args:
        cache: Where it is made if it isn't there yet.

    Raises:
        OSError: It can't be made.
    """
    packages = _packages((*_OURS, *_LIBRARIES))
    target = cache / f"guest-{_digest(packages)}"
    if not target.is_dir():
        with _made_beside(target) as fresh:
            fresh.mkdir()
            _copy(packages, fresh)
    return target


def zipapp_file(cache: Path) -> Path:
    """Return an archive that Python runs as the daemon: guestd, h11 and python_multipart.

    Args:
        cache: Where it is made if it isn't there yet.

    Raises:
        OSError: It can't be made.
    """
    packages = _packages(("guestd", *_LIBRARIES))
    target = cache / f"guestd-{_digest(packages)}.pyz"
    if not target.is_file():
        with _made_beside(target) as fresh, tempfile.TemporaryDirectory() as work:
            _copy(packages, Path(work))
            zipapp.create_archive(work, fresh, main="guestd.daemon:main", compressed=True)
            fresh.chmod(0o644)
    return target


def _packages(names: tuple[str, ...]) -> dict[str, Path]:
    return {name: _GUEST / name if name in _OURS else _installed(name) for name in names}


def _installed(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(
            f"The package {name} is not installed: install Orchestrion anew, with its dependencies."
        )
    return Path(found.submodule_search_locations[0])


def _files(package: Path) -> Iterator[Path]:
    """Yield a package's files relative to it, in an order that is always the same."""
    for path in sorted(package.rglob("*")):
        relative = path.relative_to(package)
        if path.is_file() and not _LEFT_OUT & set(relative.parts):
            yield relative


def _digest(packages: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, package in packages.items():
        for relative in _files(package):
            content = (package / relative).read_bytes()
            digest.update(f"{name}/{relative}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()[:_DIGITS]


def _copy(packages: dict[str, Path], target: Path) -> None:
    for name, package in packages.items():
        for relative in _files(package):
            path = target / name / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(package / relative, path)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


@contextlib.contextmanager
def _made_beside(target: Path) -> Iterator[Path]:
    """Give a path to make `target` at; once it is whole it takes its place, unless another process was quicker."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as work:
        fresh = Path(work) / target.name
        yield fresh
        try:
            fresh.rename(target)
        except OSError:
            if not target.exists():
                raise
