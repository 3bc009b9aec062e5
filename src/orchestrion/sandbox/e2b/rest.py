"""E2B's control plane: requests, retries and errors."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import orjson
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from orchestrion.core.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    OrchestrionError,
    SandboxError,
    SandboxUnavailable,
    Unsupported,
)
from orchestrion.sandbox.client.edge import resolvable
from orchestrion.sandbox.client.wire import said, value_of

_ANSWER_BYTES = 16 * 1024 * 1024
_ATTEMPTS = 4
_LONGEST_WAIT = 30
_SECONDS = 90
_REPEATABLE = {"GET", "PUT", "DELETE"}
_NOTHING_DONE = {429, 503}
_UNCLEAR = {502, 504}
_PAGE = 100
_PAGES = 1000
_KINDS: dict[int, type[OrchestrionError]] = {
    400: InvalidInput,
    404: NotFound,
    405: Unsupported,
    409: Conflict,
    422: InvalidInput,
    501: Unsupported,
}


class _Again(Exception):
    """An attempt that may be repeated.

    Args:
        error: What to raise if it is the last.
        after: Seconds that the server wants us to wait.
    """

    def __init__(self, error: OrchestrionError, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


class Rest:
    """A client of the control plane.

    Args:
        api_url: Its base URL.
        api_key: Sent with each request.
        ssl_context: What certificates are believed.
    """

    def __init__(self, api_url: str, api_key: str, ssl_context: ssl.SSLContext) -> None:
        self.api_url = api_url.rstrip("/")
        self._client = httpx.AsyncClient(
            headers={"X-API-KEY": api_key, "Accept": "application/json"},
            timeout=_SECONDS,
            verify=ssl_context,
        )

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        once: bool = False,
    ) -> Any:
        """Send a request, again where that is safe; return what the answer says, None if nothing.

        Args:
            method: The HTTP method.
            path: Below the API's base, encoded.
            body: Sent as JSON.
            query: Sent as the query.
            once: Name the request, so that the server carries it out once however often it is sent.

        Raises:
            NotFound, Conflict, InvalidInput, Unsupported: As the server says.
            SandboxUnavailable: The key is refused, or the server does not answer, after retries.
            SandboxError: Anything else it refused.
        """
        return (await self._send(method, path, body, query, once=once))[0]

    async def pages(self, path: str, query: Mapping[str, str] | None = None) -> AsyncIterator[dict[str, Any]]:
        """Yield the items of a list that comes in pages; raises as `ask`."""
        asked = {"limit": str(_PAGE), **(query or {})}
        for _ in range(_PAGES):
            items, headers = await self._send("GET", path, None, asked, once=False)
            if not isinstance(items, list):
                raise SandboxError("E2B's API sent a list that is none.")
            for item in items:
                if isinstance(item, dict):
                    yield item
            if not (token := headers.get("x-next-token")):
                return
            asked["nextToken"] = token

    async def aclose(self) -> None:
        """Let go of its connections."""
        await self._client.aclose()

    async def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        query: Mapping[str, str] | None,
        *,
        once: bool,
    ) -> tuple[Any, Mapping[str, str]]:
        content = None if body is None else orjson.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        if once:
            headers["Idempotency-Key"] = secrets.token_hex(16)
        url, extensions = httpx.URL(self.api_url + path), {}
        if (dialled := resolvable(url.host)) != url.host:
            headers["Host"], extensions = url.netloc.decode(), {"sni_hostname": url.host}
            url = url.copy_with(host=dialled)
        request = self._client.build_request(
            method, url, params=query, content=content, headers=headers, extensions=extensions
        )
        repeatable = once or method in _REPEATABLE
        retrying = AsyncRetrying(
            stop=stop_after_attempt(_ATTEMPTS), wait=_wait, retry=retry_if_exception_type(_Again), reraise=True
        )
        try:
            return await retrying(self._attempt, request, repeatable)
        except _Again as last:
            raise last.error from None

    async def _attempt(self, request: httpx.Request, repeatable: bool) -> tuple[Any, Mapping[str, str]]:
        try:
            async with asyncio.timeout(_SECONDS):
                response = await self._client.send(request, stream=True)
                async with contextlib.aclosing(response):
                    data = await _bounded(response)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise _Again(self._unreachable()) from None
        except (httpx.HTTPError, TimeoutError):
            error = self._unreachable()
            raise _Again(error) if repeatable else error from None
        if response.is_success:
            return (value_of(data) if data else None), response.headers
        refusal = _error(response.status_code, data)
        if _may_repeat(response, repeatable):
            raise _Again(refusal, _retry_after(response))
        raise refusal

    def _unreachable(self) -> SandboxUnavailable:
        return SandboxUnavailable(
            f"E2B's API at {self.api_url} does not answer.", "Check E2B_DOMAIN, the network and its certificates."
        )


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _Again) and error.after is not None:
        return min(error.after, _LONGEST_WAIT)
    return wait_exponential_jitter(initial=0.3, max=5)(state)


def _may_repeat(response: httpx.Response, repeatable: bool) -> bool:
    told = str(response.headers.get("should-retry", "")).lower()
    if told in {"true", "false"}:
        return told == "true"
    status = response.status_code
    return status in _NOTHING_DONE or (status in _UNCLEAR and repeatable)


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else None


async def _bounded(response: httpx.Response) -> bytes:
    data = bytearray()
    async for piece in response.aiter_bytes():
        data += piece
        if len(data) > _ANSWER_BYTES:
            raise SandboxError("E2B's API sent a larger answer than is allowed.")
    return bytes(data)


def _error(status: int, data: bytes) -> OrchestrionError:
    words = ""
    with contextlib.suppress(SandboxError):
        value = value_of(data)
        words = said(str(value.get("message", ""))) if isinstance(value, dict) else ""
    sentence = f"E2B's API refused: {words or f'status {status}'}."
    if status in {401, 403}:
        return SandboxUnavailable(sentence, "Check E2B_API_KEY.")
    if status == 429 or status >= 502:
        return SandboxUnavailable(sentence, "Wait a little and try again.")
    return _KINDS.get(status, SandboxError)(sentence)
