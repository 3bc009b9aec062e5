"""The host's side of the zygote: it is started when first needed and asked for half-born sandboxes."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

from orchestrion.core.errors import SandboxError
from orchestrion.sandbox.local.records import Mode

_START, _FORK, _SETTLE = 30, 10, 20
_MESSAGE = 128 * 1024
_LAUNCHER = Path(__file__).parent


class BirthError(SandboxError):
    """A sandbox could not be born; `reason` is what the kernel or the guest said."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The sandbox could not be made: {reason.rstrip('.')}.")
        self.reason = reason


class Newborn:
    """A half-born sandbox: it ends when this is closed before it was started.

    Args:
        channel: The socket to it.
        pid: Its process 1, as the host sees it.
    """

    def __init__(self, channel: socket.socket, pid: int) -> None:
        self._channel = channel
        self.pid = pid

    def prepare(self, plan: dict[str, Any]) -> None:
        """Let it put its system together; returns when that stands.

        Raises:
            BirthError: It could not.
        """
        self._tell(plan, [])

    def start(self, plan: dict[str, Any], listener: int, log: int) -> None:
        """Let it live; returns when it has moved into its system.

        Raises:
            BirthError: It could not.
        """
        self._tell(plan, [listener, log])
        self._channel.close()

    def _tell(self, plan: dict[str, Any], fds: list[int]) -> None:
        text = json.dumps(plan).encode()
        if len(text) > _MESSAGE:
            raise BirthError(f"its variables and metadata take more than {_MESSAGE // 1024} KiB")
        try:
            self._channel.settimeout(_SETTLE)
            socket.send_fds(self._channel, [text], fds)
        except OSError as error:
            raise BirthError(f"no answer from its process ({error})") from None
        _answer(self._channel)

    def close(self) -> None:
        """Give it up, unless it has been started."""
        self._channel.close()


class Nursery:
    """One zygote. The methods block and may be called in any thread.

    Args:
        python: The sandbox's Python, on the host.
        payload: The directory with `guestd` and what it needs.
        modules: What the zygote loads ahead.
        log: Where the zygote complains.
        mode: How sandboxes are made here.
    """

    def __init__(self, python: Path, payload: Path, modules: list[str], log: Path, mode: Mode) -> None:
        self._python, self._payload, self._modules = python, payload, modules
        self._log, self._mode = log, mode
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def fork(self) -> Newborn:
        """Return a half-born sandbox.

        Raises:
            BirthError: None could be made; the zygote's or the kernel's own words say why.
        """
        with self._lock:
            channel = self._ask()
        try:
            channel.settimeout(_FORK)
            return Newborn(channel, int(_answer(channel)["pid"]))
        except BaseException:
            channel.close()
            raise

    def close(self) -> None:
        """End the zygote, and with it the half-born that nobody keeps; sandboxes live on."""
        with self._lock:
            self._end()

    def _ask(self) -> socket.socket:
        """Ask the zygote for one; a zygote that has died meanwhile is started anew, once."""
        for last in (False, True):
            try:
                control = self._running()
                control.send(self._mode.encode())
                _text, fds, _, _ = socket.recv_fds(control, 64, 1)
                if fds:
                    return socket.socket(fileno=fds[0])
            except OSError:
                pass
            self._end()
            if last:
                break
        raise BirthError(f"its zygote ended ({self._complaint() or 'it said nothing'})")

    def _running(self) -> socket.socket:
        if self._control is None:
            self._start()
        if self._control is None:
            raise BirthError(f"its zygote did not start ({self._complaint() or 'it said nothing'})")
        return self._control

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        paths = [str(_LAUNCHER), str(self._payload)]
        code = f"import sys; sys.path[:0] = {paths!r}\nfrom launcher.zygote import main\n"
        code += f"main({theirs.fileno()}, {self._modules!r})\n"
        with theirs, open(self._log, "wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program on the path from the settings
                [self._python, "-I", "-B", "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._control = ours
        # Not on its command line: code inside sees that of process 1, and need not know where we are installed.
        if self._process.stdin is not None:
            with contextlib.suppress(OSError), self._process.stdin as script:
                script.write(code.encode())
        ours.settimeout(_START)
        try:
            ready = ours.recv(64) == b"ready"
        except OSError:
            ready = False
        if not ready:
            self._end()

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _complaint(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1][:300].rstrip(".") if lines else ""


def _answer(channel: socket.socket) -> dict[str, Any]:
    """Return the next message of a half-born sandbox.

    Raises:
        BirthError: It failed, or ended without a word.
    """
    try:
        text = channel.recv(_MESSAGE)
    except OSError as error:
        raise BirthError(f"no answer from its process ({error})") from None
    if not text:
        raise BirthError("its process ended at once")
    message = json.loads(text)
    if "error" in message:
        raise BirthError(str(message["error"]))
    return dict(message)
