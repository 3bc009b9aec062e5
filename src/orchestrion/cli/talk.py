"""`orchestrion chat`: a conversation in the terminal, or one goal a line from a pipe."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

from orchestrion.cli.drive import drive
from orchestrion.cli.errors import EXIT_CANCELLED, explain
from orchestrion.cli.files import check_files
from orchestrion.cli.goal import OWNER, checked_request, playbook_label, upload
from orchestrion.cli.opening import opened
from orchestrion.cli.portal import Portal
from orchestrion.cli.prompt import line_editing, read_goal
from orchestrion.cli.render import View
from orchestrion.cli.screen import Screen, is_interactive
from orchestrion.cli.sink import ScreenSink, Writer
from orchestrion.cli.stop import Stop
from orchestrion.cli.text import ago, one_line, size
from orchestrion.core.settings import load_settings
from orchestrion.runtime import Runtime

_HELP = """\
Type a goal and press Enter. Pasted lines stay together;
a line that ends with \\ goes on in the next.
  /upload PATH   give it a file; the next goal is about it
  /files         the files of this session
  /help          this
  /quit          leave (also Ctrl-D)
Ctrl-C stops the answer that is being given."""


def talk(session: str | None, model: str | None) -> int:
    """Converse until the user leaves; return 0, or with piped input the code of the last run that did not finish.

    Raises:
        OrchestrionError: A setting is wrong, or there is no such session.
    """
    settings = load_settings()
    checked_request({"goal": "hello", "model": model})
    signal.signal(signal.SIGTERM, _terminate)
    with Portal() as portal:
        context = opened(settings)
        runtime = portal.call(context.__aenter__())
        try:
            conversation = Conversation(portal, runtime, model)
            conversation.open(session)
            with line_editing(settings.home / "chat_history"):
                return conversation.hold()
        except _Terminated:
            return EXIT_CANCELLED
        finally:
            portal.call(context.__aexit__(None, None, None))


class _Terminated(BaseException):
    """SIGTERM came."""


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


class Conversation:
    """One session, goal after goal.

    Args:
        portal: Where the runtime lives.
        runtime: It, entered.
        model: For every goal; None for the setting's.
    """

    def __init__(self, portal: Portal, runtime: Runtime, model: str | None) -> None:
        self._portal = portal
        self._runtime = runtime
        self._model = model
        self._screen = Screen()
        self._label = playbook_label(runtime.settings, model)
        self._session = ""
        self._owner = OWNER
        self._fresh: list[str] = []

    def open(self, session: str | None) -> None:
        """Find the session and greet; one that is not named is made by the first thing that needs it."""
        if session is not None:
            found = self._portal.call(self._runtime.get_session(session, owner=None))
            self._session, self._owner = found.session_id, found.owner
            self._screen.line(
                (f"Going on with “{one_line(found.title, 60)}”, last used {ago(found.updated_at)}.", "dim")
            )
        if is_interactive():
            self._screen.line(("Orchestrion", "bold"), (" — /help shows what you can type, Ctrl-D leaves.", "dim"))

    def hold(self) -> int:
        """Read and answer until the input ends."""
        code = 0
        while True:
            try:
                text = read_goal("\n> ").strip()
            except EOFError:
                return self._leave(code)
            except KeyboardInterrupt:
                self._screen.line(("Ctrl-D or /quit leaves.", "dim"))
                continue
            if text == "/quit":
                return self._leave(code)
            if text:
                code = self._take(text) or code

    def _leave(self, code: int) -> int:
        """Say good-bye; a person has seen what failed, a script learns it from the exit code."""
        if not is_interactive():
            return code
        self._screen.gap()
        if self._session:
            self._screen.line((f"Carry on with: orchestrion chat --session {self._session}", "dim"))
        return 0

    def _take(self, text: str) -> int:
        """Answer one line; an error is told and the conversation goes on."""
        try:
            if text.startswith("/") and self._command(*text.partition(" ")[::2]):
                return 0
            return self._answer(text)
        except KeyboardInterrupt:
            self._screen.line(("Stopped.", "yellow"))
            return EXIT_CANCELLED
        except BrokenPipeError:
            raise
        except Exception as error:
            self._screen.close()
            return explain(error)

    def _command(self, name: str, rest: str) -> bool:
        """Carry out a command; False if it is none, as a path at the start of a goal."""
        if name == "/help":
            print(_HELP)
        elif name == "/files":
            self._list_files()
        elif name == "/upload":
            self._upload(rest.strip())
        elif "/" in name[1:] or "\n" in name or not name[1:].isalpha():
            return False
        else:
            self._screen.line((f"There is no command {name}; /help shows those there are.", "yellow"))
        return True

    def _ensure_session(self, title: str) -> str:
        if not self._session:
            made = self._portal.call(self._runtime.create_session(title=title, owner=OWNER))
            self._session = made.session_id
        return self._session

    def _list_files(self) -> None:
        root = self._runtime.workspace(self._session).root if self._session else None
        found = sorted(path for path in root.rglob("*") if _shown(path, root)) if root else []
        if not found:
            self._screen.line(("No files yet; /upload PATH gives it one.", "dim"))
        for path in found:
            self._screen.path(str(path), size(path.lstat().st_size))

    def _upload(self, name: str) -> None:
        if not name:
            self._screen.line(("Say which file: /upload PATH", "yellow"))
            return
        limit = self._runtime.settings.upload_limit_mb << 20
        [path] = check_files([_unquoted(name)], limit=limit)
        session = self._ensure_session(path.name)
        stored = self._portal.call(upload(self._runtime, session, path, self._screen))
        self._fresh.append(stored)
        self._screen.line(("Stored as ", "dim"), stored, ("; the next goal is about it.", "dim"))

    def _answer(self, text: str) -> int:
        request = checked_request({"goal": text, "model": self._model, "files": self._fresh})
        session = self._ensure_session(text)
        submitting = self._runtime.submit(request.model_copy(update={"session_id": session}), owner=self._owner)
        run = self._portal.call(submitting)
        self._fresh = []
        view = View(self._screen, self._runtime.workspace(session).root, self._label)
        stop = Stop(leave=lambda: None)
        future = self._portal.start(self._show(run.run_id, view, stop))
        try:
            while True:
                try:
                    return future.result()
                except KeyboardInterrupt:
                    self._portal.tell(stop.request)
        except _Terminated:
            self._portal.tell(stop.request)
            future.result(timeout=5)
            raise
        finally:
            self._label = view.playbook

    async def _show(self, run_id: str, view: View, stop: Stop) -> int:
        writer = Writer(ScreenSink(view, hint=""))
        stop.notify = writer.stopping
        async with writer.running():
            return await drive(self._runtime, run_id, writer, stop)


def _unquoted(name: str) -> str:
    """Take off the quotes that dropping a file on a terminal puts round its path."""
    for quote in ("'", '"'):
        if len(name) > 1 and name.startswith(quote) and name.endswith(quote):
            return name[1:-1]
    return name if Path(name).expanduser().exists() else name.replace("\\ ", " ")


def _shown(path: Path, root: Path | None) -> bool:
    return (
        root is not None and path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
