"""Writes docs/reference/*.md from the code that it describes; a test fails when the two differ.

.venv/bin/python scripts/reference.py
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
_NOTE = "<!-- Written by scripts/reference.py from the code: `make reference`. -->\n"


def settings() -> str:
    """Return the reference of all settings."""
    from orchestrion.core.settings import Settings, environment_name

    lines = [
        "# Settings",
        "",
        _NOTE,
        "Set them in the environment, or in `config.toml` in the data directory under either name.",
        "A flag wins over the environment, the environment over the file, the file over the default. An",
        "unknown or malformed setting is an error at start. `orchestrion config show` prints what is in effect, and",
        "from where.",
        "",
        "| variable | in config.toml | default | what it is |",
        "|---|---|---|---|",
    ]
    for field, info in Settings.model_fields.items():
        default = _default(field, info)
        lines.append(f"| `{environment_name(field)}` | `{field}` | {default} | {_cell(info.description or '')} |")
    return "\n".join(lines) + "\n"


def _default(field: str, info: Any) -> str:
    if field == "home":
        return "`~/.orchestrion`"
    value = info.get_default(call_default_factory=True)
    return "" if value in (None, []) else f"`{value}`"


def events() -> str:
    """Return the reference of all events."""
    from orchestrion.core import events as module

    kinds = typing.get_args(typing.get_args(module.Event)[0])
    lines = [
        "# Events",
        "",
        _NOTE,
        "All that happens in a run is an event: numbered from 1 without gaps, written to the journal before anyone",
        "sees it. The page, the command line, the traces and the HTTP streams are renderings of this one list. Each",
        "event has `type`, `run_id`, `seq`, `ts` (UTC) and `agent`, and the fields below. A client skips types and",
        "fields that it does not know: later versions add some.",
    ]
    for kind in kinds:
        name = kind.model_fields["type"].default
        lines += ["", f"## `{name}`", "", _first_paragraph(kind) + _terminal(kind)]
        lines += _fields(kind, skip={"type", *module.EventBase.model_fields})
    lines += ["", "# Parts of events"]
    for part in _parts(kinds):
        lines += ["", f"## {part.__name__}", "", _first_paragraph(part), *_fields(part, skip=set())]
    return "\n".join(lines) + "\n"


def _terminal(kind: Any) -> str:
    return " **It is the run's last event.**" if kind.terminal else ""


def _parts(kinds: tuple[Any, ...]) -> list[Any]:
    from pydantic import BaseModel

    found: dict[str, Any] = {}
    for kind in kinds:
        for info in kind.model_fields.values():
            for inner in _types_in(info.annotation):
                if inspect.isclass(inner) and issubclass(inner, BaseModel):
                    found[inner.__name__] = inner
    return [found[name] for name in sorted(found)]


def _types_in(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in typing.get_args(annotation):
        yield from _types_in(inner)


def _fields(model: Any, skip: set[str]) -> list[str]:
    said = _attributes(inspect.getdoc(model) or "")
    rows = [
        f"| `{name}` | {_cell(_type(info.annotation))} | {_cell(said.get(name, ''))} |"
        for name, info in model.model_fields.items()
        if name not in skip
    ]
    return ["", "| field | type | |", "|---|---|---|", *rows] if rows else []


def _attributes(doc: str) -> dict[str, str]:
    """Read the `Attributes:` part of a Google-style docstring."""
    part = doc.partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", part, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _type(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _type(part) for part in inner)
    if origin is list:
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return "object"
    name = str(annotation.__name__)
    return {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}.get(name, name)


def http() -> str:
    """Return the reference of the HTTP API."""
    from orchestrion.core.settings import Settings
    from orchestrion.server.app import create_app

    schema = create_app(Settings()).openapi()
    lines = [
        "# HTTP",
        "",
        _NOTE,
        "A running server tells the same in full at `/docs`, and as OpenAPI at `/openapi.json`. Errors are RFC 9457",
        "problem documents (`title`, `detail`, `status`, `code`, `remedy`, `request_id`). Without keys the server",
        "listens on loopback only; with `ORCHESTRION_API_KEYS` each request carries `Authorization: Bearer <key>`.",
        "",
        "| method and path | what it does |",
        "|---|---|",
    ]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            lines.append(f"| `{method.upper()} {path}` | {_cell(_operation(operation))} |")
    lines.append('| `WS /api/ws` | The same events over a WebSocket: send `{"subscribe": run_id, "after": seq}`. |')
    return "\n".join(lines) + "\n"


def _operation(operation: dict[str, Any]) -> str:
    description = operation.get("description") or operation.get("summary", "")
    return " ".join(str(description).split("\n\n")[0].split())


def cli() -> str:
    """Return the reference of the command line."""
    import typer

    from orchestrion.cli.app import app

    root: Any = typer.main.get_command(app)
    lines = ["# Command line", "", _NOTE, root.help, "", root.epilog]
    for name, command in _commands(root, "orchestrion"):
        lines += ["", f"## `{name}`", "", command.help or ""]
        rows = [_parameter(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
        lines += ["", "| argument or option | |", "|---|---|", *rows] if rows else []
    return "\n".join(lines) + "\n"


def _commands(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix} {name}")
        elif not command.hidden:
            yield f"{prefix} {name}", command


def _parameter(parameter: Any) -> str:
    flags = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar or parameter.name.upper()]
    takes = f" {parameter.metavar}" if parameter.param_type_name == "option" and parameter.metavar else ""
    given = parameter.default not in (None, False, []) and not callable(parameter.default)
    default = f" Default: `{parameter.default}`." if given else ""
    return f"| `{', '.join(flags)}{takes}` | {_cell(parameter.help or '')}{default} |"


def _first_paragraph(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES: dict[str, Callable[[], str]] = {"settings": settings, "events": events, "cli": cli, "http": http}


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, render in PAGES.items():
        (FOLDER / f"{name}.md").write_text(render())


if __name__ == "__main__":
    main()
