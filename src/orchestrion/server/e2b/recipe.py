"""Carrying out a template's steps in a sandbox."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from orchestrion.core.errors import OrchestrionError
from orchestrion.sandbox.protocols import Output, Sandbox
from orchestrion.server.e2b.bodies import Step

STEP_SECONDS = 3600.0
_PIECE = 1024 * 1024
_OWN_NAMES = ("base", "code-interpreter-v1")
# What runs here is this machine's own system, whichever of these is named.
_LOCAL_IMAGES = ("ubuntu", "debian", "e2bdev/base", "e2bdev/code-interpreter", "python")

Say = Callable[[str], None]


class StepFailed(Exception):
    """A step that could not be carried out; its text is for the template's author."""


@dataclass
class State:
    """What steps leave to those after them.

    Attributes:
        envs: Variables.
        user: Who runs commands.
        workdir: Where.
    """

    envs: dict[str, str] = field(default_factory=dict)
    user: str = "user"
    workdir: str = "/home/user"


def local_base(image: str) -> str | None:
    """Return the template that stands for an image; None for one that can't be had here."""
    name = image.removeprefix("docker.io/").removeprefix("library/").partition("@")[0]
    head, colon, tag = name.rpartition(":")
    name = head if colon and "/" not in tag else name
    return "base" if name in _LOCAL_IMAGES or name in _OWN_NAMES else None


@dataclass
class Cook:
    """Carries out steps.

    Args:
        sandbox: Where.
        uploads: The directory of uploaded archives, by their hash.
        say: Takes lines for the build's log.
        state: Changes with the steps.
    """

    sandbox: Sandbox
    uploads: Path
    say: Say
    state: State = field(default_factory=State)

    def __post_init__(self) -> None:
        self._ways: dict[str, Callable[[Step], Awaitable[None]]] = {
            "RUN": self._run,
            "ENV": self._env,
            "WORKDIR": self._workdir,
            "USER": self._user,
            "COPY": self._copy,
        }

    async def do(self, step: Step) -> None:
        """Carry out one step.

        Raises:
            StepFailed: It could not be.
        """
        try:
            await self._ways[step.type](step)
        except (IndexError, ValueError):
            raise StepFailed(f"{step.type} has too few or malformed arguments.") from None

    async def run(self, command: str, user: str, *, seconds: float = STEP_SECONDS) -> int:
        """Run a command where the steps have come to; return its exit code."""

        async def pass_on(output: Output) -> None:
            for line in output.text.splitlines():
                self.say(f"[{output.stream}] {line}")

        try:
            result = await self.sandbox.run_command(
                f"exec bash -l -c {shlex.quote(command)}",
                timeout=seconds,
                cwd=self.state.workdir,
                env=self.state.envs,
                user=user,
                on_output=pass_on,
            )
        except OrchestrionError as error:
            raise StepFailed(f"failed to run command '{command}': command failed: {_reason(error, user)}") from None
        return result.exit_code

    async def _run(self, step: Step) -> None:
        user = step.args[1] if len(step.args) > 1 and step.args[1] else self.state.user
        code = await self.run(step.args[0], user)
        if code != 0:
            raise StepFailed(f"failed to run command '{step.args[0]}': exit status {code}")

    async def _env(self, step: Step) -> None:
        self.state.envs.update(zip(step.args[::2], step.args[1::2], strict=True))

    async def _workdir(self, step: Step) -> None:
        path = shlex.quote(step.args[0])
        made = f"mkdir -p {path} && chown {shlex.quote(self.state.user)}: {path} && cd {path} && pwd"
        result = await self.sandbox.run_command(made, cwd=self.state.workdir, user="root")
        if result.exit_code != 0:
            raise StepFailed(f"failed to set the working directory: {result.stderr.strip()[:500]}")
        self.state.workdir = result.stdout.strip()

    async def _user(self, step: Step) -> None:
        name = step.args[0]
        if (await self.sandbox.run_command(f"id -u {shlex.quote(name)}", user="root")).exit_code != 0:
            raise StepFailed(f"failed to set the user: there is no user '{name}'")
        self.state.user = name

    async def _copy(self, step: Step) -> None:
        source, destination, *rest = step.args
        owner, mode = (*rest, "", "")[:2]
        archive = self.uploads / (step.files_hash or "")
        if not step.files_hash or not archive.is_file():
            raise StepFailed(f"failed to copy '{source}': its files were not uploaded")
        await self.sandbox.files.write("/tmp/.copied.tar", _pieces(archive), user="root")  # noqa: S108
        script = _COPY.format(
            source=_glob(source), destination=shlex.quote(destination), owner=shlex.quote(owner or self.state.user),
            mode=shlex.quote(mode),
        )  # fmt: skip
        result = await self.sandbox.run_command(f"bash -c {shlex.quote(script)}", cwd=self.state.workdir, user="root")
        if result.exit_code != 0:
            raise StepFailed(f"failed to copy '{source}': {result.stderr.strip()[:500]}")


# As Docker does: a directory's content is copied, several sources go into a directory, made if need be.
_COPY = """set -e; shopt -s nullglob dotglob
from=$(mktemp -d); trap 'rm -rf "$from" /tmp/.copied.tar' EXIT
tar -xf /tmp/.copied.tar -C "$from"; to={destination}; case $to in /*) ;; *) to=$PWD/$to;; esac
cd "$from"; found=({source}); [ ${{#found[@]}} -gt 0 ] || {{ echo 'nothing matches' >&2; exit 1; }}
for one in "${{found[@]}}"; do
  chown -hR {owner}: "$one"; [ -z {mode} ] || chmod -R {mode} "$one"
  if [ -d "$one" ] && [ ! -L "$one" ]; then mkdir -p "$to"; cp -a "$one/." "$to/"
  elif [ ${{#found[@]}} -gt 1 ] || [ -d "$to" ] || [ "${{to%/}}" != "$to" ]; then mkdir -p "$to"; cp -a "$one" "$to/"
  else mkdir -p "$(dirname "$to")"; cp -a "$one" "$to"; fi
done
[ ! -d "$to" ] || [ "$to" = / ] || chown {owner}: "$to"
"""


def _glob(source: str) -> str:
    """Quote a source for the shell, but for its wildcards."""
    return "".join(part if part in "*?[]" else shlex.quote(part) for part in source.lstrip("/"))


def _reason(error: OrchestrionError, user: str) -> str:
    unknown = "user" in error.detail.lower() and user not in {"user", "root"}
    return f"unauthenticated: invalid username: '{user}'" if unknown else str(error)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as source:
        while piece := source.read(_PIECE):
            yield piece
