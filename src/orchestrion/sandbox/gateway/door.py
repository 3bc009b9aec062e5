"""One sandbox's socket at the gateway: who may pass, what each connection is about, and what is open now."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import aclosing, suppress
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path

import h11
import structlog

from orchestrion.sandbox.gateway.dialler import Dialler, Line, Unreachable
from orchestrion.sandbox.gateway.egress import EgressReport, Kind
from orchestrion.sandbox.gateway.forward import BadGateway, Forward, Place, absolute, authority
from orchestrion.sandbox.gateway.grants import Grant, ModelDoor
from orchestrion.sandbox.gateway.limits import GatewayLimits
from orchestrion.sandbox.gateway.peer import Full, Gone, Peer, Room, finish, hang_up, let_go
from orchestrion.sandbox.gateway.policy import Policy, Refusal
from orchestrion.sandbox.gateway.tunnel import Tunnel

log = structlog.get_logger(__name__)

MODEL_PATHS = {"/v1/messages": "POST", "/v1/chat/completions": "POST", "/v1/models": "GET"}
_CUT_OFF = "No run uses this sandbox now, so it reaches nothing outside. Start a run in its session."
_NO_MODELS = "Model calls from this sandbox are switched off. Its owner can allow them: ORCHESTRION_SANDBOX_MODELS."
_NOT_HERE = "This is the sandbox's proxy: it takes CONNECT, http:// URLs, and model calls under /v1/."
_TOO_MANY = "This sandbox has too many connections open. Close some first."
_TOO_MUCH = "The model calls of this sandbox are too large together. Make fewer at once."
_CUT_SECONDS = 10.0


@dataclass(frozen=True, eq=False)
class Held:
    """A grant that a sandbox holds, and the report of what it reached under it."""

    grant: Grant
    report: EgressReport


@dataclass(eq=False)
class Work:
    """What a connection is doing.

    Attributes:
        task: Serves it.
        held: Under which grant; None before its first request.
        models: It is a model call.
        line: What it is connected to outside.
    """

    task: asyncio.Task[None] | None = None
    held: Held | None = None
    models: bool = False
    line: Line | None = None


class Door:
    """Serves one sandbox.

    Args:
        sandbox_id: Which.
        policy: What it may reach.
        grants: What it holds, of which the last counts; kept by the gateway.
        dialler: Connects to the outside.
        limits: The bounds.
    """

    def __init__(
        self, sandbox_id: str, policy: Policy, grants: list[Held], dialler: Dialler, limits: GatewayLimits
    ) -> None:
        self._sandbox_id = sandbox_id
        self._policy = policy
        self._grants = grants
        self._dialler = dialler
        self._limits = limits
        self._server: asyncio.Server | None = None
        self._socket: tuple[Path, int] | None = None
        self._open: set[Work] = set()
        self._model_bytes = [limits.model_bytes]

    async def listen(self, path: Path) -> None:
        """Make the socket, whatever the length of its path, and serve it."""
        listening, number = _bound(path)
        self._socket = path, number
        self._server = await asyncio.start_unix_server(self._connected, sock=listening, limit=self._limits.head_bytes)

    async def set_policy(self, policy: Policy) -> None:
        """Change the rules, and cut what they allow no more."""
        self._policy = policy
        await self.cut(lambda work: work.line is not None and not _still_allowed(policy, work.line))

    async def cut(self, which: Callable[[Work], bool]) -> None:
        """End the connections of this kind at once."""
        tasks = {work.task for work in self._open if work.task and which(work)}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CUT_SECONDS)

    async def close(self) -> None:
        """Stop listening, end every connection, remove the socket unless it is another's by now."""
        if self._server is not None:
            self._server.close()
        await self.cut(lambda work: True)
        if self._socket is not None:
            path, number = self._socket
            with suppress(OSError):
                if path.stat().st_ino == number:
                    path.unlink()

    async def give_up(self, held: Held) -> None:
        """End the model calls of a grant that was taken back, and all else unless another grant takes it over."""
        if not self._grants:
            await self.cut(lambda work: True)
            return
        await self.cut(lambda work: work.held is held and work.models)
        for work in self._open:
            if work.held is held:
                work.held = self._grants[-1]

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        crowded = len(self._open) >= self._limits.connections
        if len(self._open) >= 2 * self._limits.connections:
            hang_up(writer)
            return
        peer, work = Peer(reader, writer, self._limits), Work()
        self._open.add(work)
        # In a context of its own: the socket may have been made amid a run, with callbacks and log fields of its own.
        turn = _turn_away(peer) if crowded else self._serve(peer, work)
        work.task = asyncio.create_task(turn, context=Context())
        work.task.add_done_callback(lambda _: self._open.discard(work))

    async def _serve(self, peer: Peer, work: Work) -> None:
        try:
            while (request := await peer.request()) is not None:
                await self._answer(peer, request, work)
                work.models, work.line = False, None
            await finish(peer.reader, peer.writer)
        except h11.RemoteProtocolError as error:
            await _say_malformed(peer, error)
        except Gone:
            pass
        except Exception:
            log.exception("the gateway failed", sandbox=self._sandbox_id)
        finally:
            hang_up(peer.writer)
            if work.line is not None:
                hang_up(work.line.writer)

    async def _answer(self, peer: Peer, request: h11.Request, work: Work) -> None:
        if not self._grants:
            await peer.refuse(403, _CUT_OFF)
            return
        work.held = self._grants[-1]
        target = request.target.decode("latin-1")
        if request.method == b"CONNECT":
            await self._tunnel(peer, target, work)
        elif place := absolute(target):
            await self._forward(peer, request, place, work)
        elif target.startswith("/"):
            await self._model_call(peer, request.method.decode(), target.partition("?")[0], work)
        else:
            await peer.refuse(400, _NOT_HERE, kind="invalid_request_error")

    async def _tunnel(self, peer: Peer, target: str, work: Work) -> None:
        place = authority(target)
        if place is None or await peer.small_body(0) is None:
            await peer.refuse(400, _NOT_HERE, kind="invalid_request_error")
            return
        line = await self._dial(peer, *place, work)
        if line is None:
            return
        tunnel = Tunnel(peer, line, lambda: self._policy, self._limits)
        try:
            await tunnel.carry(await peer.become_tunnel())
        except Refusal as refusal:
            await self._report(work, _denied(line.permit.host, line.permit.port, refusal))
        finally:
            let_go(line.writer)
            await self._report_bytes(work, line, tunnel.bytes_in, tunnel.bytes_out)

    async def _forward(self, peer: Peer, request: h11.Request, place: Place, work: Work) -> None:
        line = await self._dial(peer, place.host, place.port, work)
        if line is None:
            return
        forward = Forward(peer, line, self._limits)
        try:
            await forward.carry(request, place)
        except BadGateway as error:
            await peer.refuse(502, str(error), kind="api_error")
        finally:
            hang_up(line.writer)
            await self._report_bytes(work, line, forward.bytes_in, forward.bytes_out)

    async def _dial(self, peer: Peer, host: str, port: int, work: Work) -> Line | None:
        """Connect to the outside; what is refused or fails is told to both sides, and None returned."""
        policy = self._policy
        try:
            permit = policy.permit(host, port)
            line = await peer.unless_gone(lambda: self._dialler.dial(policy, permit), hang_up_line)
        except Refusal as refusal:
            await self._report(work, _denied(host, port, refusal))
            await peer.refuse(403, refusal.sentence)
            return None
        except Unreachable as error:
            await self._report(work, Kind(host.lower(), port, "allowed", reason=str(error)))
            await peer.refuse(502, str(error), kind="api_error")
            return None
        work.line = line
        if not _still_allowed(self._policy, line):  # the rules were changed meanwhile
            raise Gone
        await self._report(work, _allowed(line))
        return line

    async def _model_call(self, peer: Peer, method: str, path: str, work: Work) -> None:
        models = work.held.grant.models if work.held else None
        if path not in MODEL_PATHS:
            await peer.refuse(404, _NOT_HERE, kind="not_found_error")
        elif method != MODEL_PATHS[path]:
            await peer.refuse(405, f"{path} takes {MODEL_PATHS[path]}.", kind="invalid_request_error")
        elif models is None:
            await peer.refuse(403, _NO_MODELS)
        else:
            work.models = True
            await self._pass_call(peer, models, method, path)

    async def _pass_call(self, peer: Peer, models: ModelDoor, method: str, path: str) -> None:
        room = Room(self._model_bytes)
        try:
            body = await peer.small_body(self._limits.model_body_bytes, room)
            if body is None:
                most = self._limits.model_body_bytes // 2**20
                await peer.refuse(413, f"A model call may have {most} MiB.", kind="request_too_large")
            else:
                await peer.unless_gone(lambda: _answer_call(peer, models, method, path, body))
        except Full:
            await peer.refuse(429, _TOO_MUCH, kind="rate_limit_error")
        finally:
            room.give_back()

    async def _report(self, work: Work, kind: Kind) -> None:
        if work.held is not None:
            await work.held.report.add(kind)

    async def _report_bytes(self, work: Work, line: Line, bytes_in: int, bytes_out: int) -> None:
        if work.held is not None and (bytes_in or bytes_out):
            await work.held.report.add(_allowed(line), requests=0, bytes_in=bytes_in, bytes_out=bytes_out)


async def _answer_call(peer: Peer, models: ModelDoor, method: str, path: str, body: bytes) -> None:
    reply = await models.answer(method, path, body)
    if isinstance(reply.body, bytes):
        await peer.respond(reply.status, reply.headers, reply.body)
        return
    async with aclosing(reply.body) as pieces:
        await peer.start(reply.status, list(reply.headers.items()))
        async for piece in pieces:
            await peer.piece(piece)
        await peer.end()


async def _turn_away(peer: Peer) -> None:
    try:
        await peer.refuse(503, _TOO_MANY, kind="overloaded_error")
        await finish(peer.reader, peer.writer)
    except Gone:
        pass
    finally:
        hang_up(peer.writer)


async def _say_malformed(peer: Peer, error: h11.RemoteProtocolError) -> None:
    if peer.responding:
        return
    status = error.error_status_hint or 400
    with suppress(Gone):
        await peer.refuse(status, f"The request can't be read: {error}.", kind="invalid_request_error")
        await finish(peer.reader, peer.writer)


def hang_up_line(line: Line) -> None:
    """Drop a connection that nobody waits for any more."""
    hang_up(line.writer)


def _still_allowed(policy: Policy, line: Line) -> bool:
    try:
        policy.addresses(policy.permit(line.permit.host, line.permit.port), [line.reached.address])
    except Refusal:
        return False
    return True


def _allowed(line: Line) -> Kind:
    return Kind(line.permit.host, line.permit.port, "allowed", line.reached.rule)


def _denied(host: str, port: int, refusal: Refusal) -> Kind:
    return Kind(host.lower(), port, "denied", refusal.rule, refusal.reason)


def _bound(path: Path) -> tuple[socket.socket, int]:
    """Return a socket bound at a path, and its inode.

    A socket's address has 107 bytes at most, so it is reached by its directory.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        path.unlink()
    made = socket.socket(socket.AF_UNIX)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        made.bind(f"/proc/self/fd/{directory}/{path.name}")
        path.chmod(0o666)  # its directory guards it; users inside have other ids than we
    except BaseException:
        made.close()
        raise
    finally:
        os.close(directory)
    return made, path.stat().st_ino
