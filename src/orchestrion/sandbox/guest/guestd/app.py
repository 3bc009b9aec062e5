"""The routes of the daemon, and who may use them."""

from __future__ import annotations

import hmac
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeAlias

from . import execute, files_http, filesystem, metrics, processes
from .config import Config
from .connect import RpcError
from .http import BadRequest, Handler, Request, Response, Routes, error_response, json_response

CODE_PORT = 49999
_OPEN = {("GET", "/health"), ("GET", "/files"), ("POST", "/files")}
Initialised: TypeAlias = Callable[[dict[str, Any]], None]


class App:
    """Answers every request.

    Args:
        config: Whose token is checked, and what `POST /init` changes.
        routes: By method and path; a path that ends in `/` takes everything below it, and the longest wins.
        initialised: Is given what `POST /init` brought, once the configuration has it.
    """

    def __init__(self, config: Config, routes: Routes, initialised: Initialised) -> None:
        self._config, self._initialised = config, initialised
        self._routes: Routes = {
            ("GET", "/health"): _health,
            ("GET", "/envs"): self._envs,
            ("POST", "/init"): self._init,
            **routes,
        }
        below = [(method, path) for method, path in self._routes if path.endswith("/")]
        self._below = sorted(below, key=lambda route: -len(route[1]))
        self._paths = {path for _, path in self._routes}

    async def __call__(self, request: Request) -> Response:
        """Answer, whatever happens."""
        try:
            handler = self._find(request)
            if isinstance(handler, Response):
                return handler
            return await handler(request)
        except RpcError as error:
            return error_response(error.status, error.message)
        except BadRequest as error:
            return error_response(error.status, str(error))
        except ConnectionError:
            raise
        except Exception as error:
            traceback.print_exception(error, file=sys.stderr)
            return error_response(500, f"{type(error).__name__}: {error}")

    def _find(self, request: Request) -> Handler | Response:
        if not self._allowed(request):
            return error_response(401, "unauthorized: the header X-Access-Token is missing or wrong")
        method = "GET" if request.method == "HEAD" else request.method
        if handler := self._routes.get((method, request.path)):
            return handler
        for known, path in self._below:
            if known == method and request.path.startswith(path):
                return self._routes[known, path]
        if request.path in self._paths:
            return error_response(405, f"{request.method} is not possible on {request.path}")
        return error_response(404, f"there is nothing at {request.path}")

    def _allowed(self, request: Request) -> bool:
        token = self._config.token
        if token is None or (request.method, request.path) in _OPEN or _is_context(request.path):
            return True
        return hmac.compare_digest(request.headers.get("x-access-token", "").encode(), token.encode())

    async def _envs(self, _request: Request) -> Response:
        return json_response(self._config.envs)

    async def _init(self, request: Request) -> Response:
        """Take what the host tells: a token, variables, limits, entropy of a new boot.

        Where there is a token it must know that too: it passes clients' requests on over the same socket.
        """
        if not request.trusted:
            return error_response(404, "there is nothing at /init")
        try:
            values = json.loads(await request.body() or b"{}")
            if not isinstance(values, dict):
                raise ValueError("an object is wanted")
            self._config.update(values)
        except ValueError as error:
            return error_response(400, f"The configuration can't be taken: {error}.")
        self._initialised(values)
        return Response(204)


def _is_context(path: str) -> bool:
    """The code interpreter's clients send no token there."""
    return path == "/contexts" or path.startswith("/contexts/")


async def _health(request: Request) -> Response:
    return Response(200 if request.port == CODE_PORT else 204)


def collect_routes(config: Config) -> Routes:
    """Join the routes of all services."""
    found: Routes = {}
    for service in (processes, filesystem, files_http, metrics, execute):
        found |= service.routes(config)
    return found
