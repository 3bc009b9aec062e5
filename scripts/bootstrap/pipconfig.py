"""The user's pip configuration, in uv's words: uv does not read pip's, and it may be the only way to packages."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Later sections win, as they do for pip: files, then their [install] part, then the environment.
_SECTIONS = ("global", "install", ":env:")
_SAME = {
    "index-url": "UV_DEFAULT_INDEX",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
    "proxy": "ALL_PROXY",
    "trusted-host": "UV_INSECURE_HOST",
}


def parse(listing: str) -> dict[str, str]:
    """Read the output of `pip config list` into option → value."""
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listing.splitlines():
        name, _, quoted = line.partition("=")
        section, _, option = name.partition(".")
        if section in found and quoted:
            found[section][option] = str(ast.literal_eval(quoted))
    return {option: value for section in _SECTIONS for option, value in found[section].items()}


def _reachable(place: str) -> bool:
    """Tell whether a local folder exists; uv fails on one that does not, where pip only warns."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(unquote(parts.path)).exists()
    return bool(parts.scheme) or Path(place).expanduser().exists()


def to_uv(options: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that make uv look where pip would; those already set are left alone."""
    env = {_SAME[option]: value for option, value in options.items() if option in _SAME}
    extra = [place for place in options.get("extra-index-url", "").split() if _reachable(place)]
    if extra:
        # pip takes the version from wherever it is; every file is pinned by its hash, so that is safe here.
        env |= {"UV_INDEX": " ".join(extra), "UV_INDEX_STRATEGY": "unsafe-best-match"}
    links = [place for place in options.get("find-links", "").split() if _reachable(place)]
    if links:
        env["UV_FIND_LINKS"] = ",".join(links)
    return {name: value for name, value in env.items() if not os.environ.get(name)}


def flags(options: Mapping[str, str]) -> list[str]:
    """Return what uv can only be told by a flag."""
    return ["--no-index"] if options.get("no-index", "").lower() in ("1", "true", "yes", "on") else []
