"""The few words of notebooks that are no Python: `!command`, `%cd`, `%pip`, `%env`, `%%bash` and the like."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import timeit
from collections.abc import Callable
from typing import Any

_LINE = re.compile(r"\s*(?:[\w.\[\]'\", ]+=\s*)?[!%]")
_CELL = re.compile(r"\s*%%(\w+)[ \t]*(.*?)\s*\n(.*)", re.DOTALL)
_STATEMENT = re.compile(r"(\s*)(?:([\w.\[\]'\", ]+?)\s*=\s*)?([!%])\s*(.*)", re.DOTALL)
_EXPRESSION = re.compile(r"(?<!\$)\{([^{}]+)\}|\$(\w+)")
_STRING = re.compile(r"[rbfuRBFU]{0,2}('''|\"\"\"|'|\")")
_ENDINGS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


class UnsupportedMagic(Exception):
    """A magic that this interpreter doesn't have."""


def translated(source: str) -> str:
    """Return a cell as plain Python.

    Magics become calls of `__magic__`, which the interpreter provides.
    """
    cell = _CELL.match(source)
    if cell:
        return f"__magic__.cell({cell[1]!r}, {cell[2]!r}, {cell[3]!r})"
    lines = source.split("\n")
    if not any(_LINE.match(line) for line in lines):
        return source
    return "\n".join(_translated_lines(lines))


def _translated_lines(lines: list[str]) -> list[str]:
    scanner = _Scanner()
    result: list[str] = []
    rest = iter(lines)
    for line in rest:
        if not scanner.at_statement() or not _LINE.match(line):
            scanner.read(line)
            result.append(line)
            continue
        # A command may go on after a backslash; the lines that it fills stay lines, for the traceback's numbers.
        whole, more = line, 0
        while whole.endswith("\\") and (following := next(rest, None)) is not None:
            whole, more = whole[:-1] + following, more + 1
        result += [_call(whole), *[""] * more]
    return result


def _call(line: str) -> str:
    match = _STATEMENT.fullmatch(line)
    if match is None:
        return line
    indent, target, sign, rest = match[1], match[2], match[3], match[4]
    if sign == "!":
        call = f"__magic__.lines({rest!r})" if target else f"__magic__.shell({rest.removeprefix('!')!r})"
    else:
        name, _, argument = rest.partition(" ")
        call = f"__magic__.line({name!r}, {argument.strip()!r})"
    return f"{indent}{target} = {call}" if target else indent + call


class _Scanner:
    """Follows strings, brackets and continued lines, to tell where a statement may begin."""

    def __init__(self) -> None:
        self._quote = ""
        self._depth = 0
        self._continued = False

    def at_statement(self) -> bool:
        return not (self._quote or self._depth or self._continued)

    def read(self, line: str) -> None:
        place = 0
        while place < len(line):
            place = self._string(line, place) if self._quote else self._code(line, place)
        if len(self._quote) == 1 and not line.endswith("\\"):
            self._quote = ""
        self._continued = not self._quote and line.endswith("\\")

    def _string(self, line: str, place: int) -> int:
        if line[place] == "\\":
            return place + 2
        if line.startswith(self._quote, place):
            place, self._quote = place + len(self._quote), ""
            return place
        return place + 1

    def _code(self, line: str, place: int) -> int:
        if line[place] == "#":
            return len(line)
        if quote := _STRING.match(line, place):
            self._quote = quote[1]
            return quote.end()
        self._depth = max(0, self._depth + _ENDINGS.get(line[place], 0))
        return place + 1


class Magic:
    """What translated cells call.

    Args:
        namespace: The user's variables, for `{x}` and `$x` in commands.
        run: Runs Python in that namespace.
    """

    def __init__(self, namespace: dict[str, Any], run: Callable[[str], object]) -> None:
        self._namespace = namespace
        self._run = run
        self._lines: dict[str, Callable[[str], object]] = {
            "cd": self._cd,
            "env": self._env,
            "set_env": self._env,
            "matplotlib": lambda _argument: None,  # figures always appear in the result
            "pip": self._pip,
            "pwd": lambda _argument: os.getcwd(),
            "time": self._time,
            "timeit": self._timeit,
        }
        self._cells: dict[str, Callable[[str, str], object]] = {
            "bash": self._bash,
            "sh": self._bash,
            "time": lambda _argument, body: self._time(body),
            "timeit": lambda _argument, body: self._timeit(body),
            "writefile": self._writefile,
        }

    def line(self, name: str, argument: str) -> object:
        """Do `%name argument`. Raises `UnsupportedMagic`."""
        if name not in self._lines:
            raise self._unsupported(f"%{name}")
        return self._lines[name](argument)

    def cell(self, name: str, argument: str, body: str) -> object:
        """Do `%%name argument` with the rest of the cell. Raises `UnsupportedMagic`."""
        if name not in self._cells:
            raise self._unsupported(f"%%{name}")
        return self._cells[name](argument, body)

    def shell(self, command: str) -> None:
        """Do `!command`; its exit status is in `_exit_code`."""
        self._namespace["_exit_code"] = self._bash_status(self._expanded(command))

    def lines(self, command: str) -> list[str]:
        """Return what `!command` prints, line by line."""
        argv = ["/bin/bash", "-c", self._expanded(command)]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False)  # noqa: S603
        self._namespace["_exit_code"] = done.returncode
        return done.stdout.decode("utf-8", "replace").splitlines()

    def _unsupported(self, name: str) -> UnsupportedMagic:
        known = ", ".join([*(f"%{line}" for line in self._lines), *(f"%%{cell}" for cell in self._cells)])
        return UnsupportedMagic(f"{name} is not supported here. There are !command, {known}.")

    def _expanded(self, command: str) -> str:
        return _EXPRESSION.sub(self._value, command)

    def _value(self, match: re.Match[str]) -> str:
        """Replace `{expression}` and `$variable`; what Python doesn't know is the shell's own."""
        try:
            if match[2] is not None:
                return str(self._namespace[match[2]])
            value = eval(match[1], self._namespace)  # noqa: S307 - the user's own expression
            return match[0] if isinstance(value, tuple) else str(value)  # `{1,2}` is the shell's
        except Exception:
            return match[0]

    def _bash_status(self, command: str) -> int:
        _flush()
        return subprocess.call(["/bin/bash", "-c", command], stdin=subprocess.DEVNULL)  # noqa: S603

    def _bash(self, _argument: str, body: str) -> None:
        status = self._bash_status(body)
        if status:
            raise subprocess.CalledProcessError(status, "bash")

    def _cd(self, argument: str) -> None:
        os.chdir(os.path.expanduser(self._expanded(argument.strip("'\"")) or "~"))
        print(os.getcwd())

    def _env(self, argument: str) -> object:
        name, sign, value = argument.partition("=") if "=" in argument else argument.partition(" ")
        if not argument:
            return dict(os.environ)
        if not sign:
            return os.environ.get(name)
        os.environ[name.strip()] = self._expanded(value.strip())
        return None

    def _pip(self, argument: str) -> None:
        command = [sys.executable, "-m", "pip"]
        if importlib.util.find_spec("pip") is None and (uv := shutil.which("uv")):
            command = [uv, "pip"]
        _flush()
        words = subprocess.list2cmdline(command)
        self._namespace["_exit_code"] = self._bash_status(f"{words} {self._expanded(argument)}")
        importlib.invalidate_caches()

    def _time(self, code: str) -> object:
        began, used = time.perf_counter(), time.process_time()
        value = self._run(code)
        wall, cpu = time.perf_counter() - began, time.process_time() - used
        print(f"CPU times: {cpu:.3g} s\nWall time: {wall:.3g} s")
        return value

    def _timeit(self, code: str) -> None:
        timer = timeit.Timer(code, globals=self._namespace)
        number, _ = timer.autorange()
        each = [seconds / number for seconds in timer.repeat(5, number)]
        print(f"{min(each):.3g} s per loop (best of 5 runs, {number} loops each)")

    def _writefile(self, argument: str, body: str) -> None:
        mode = "a" if argument.startswith("-a ") else "w"
        path = os.path.expanduser(argument.removeprefix("-a ").strip())
        with open(path, mode) as file:
            file.write(body if body.endswith("\n") else body + "\n")
        print(f"{'Appended to' if mode == 'a' else 'Wrote'} {path}")


def _flush() -> None:
    """What was printed so far must stand before what a command prints."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
