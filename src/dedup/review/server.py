"""The review app: a page, its JSON API, and the pictures."""

from __future__ import annotations

import json
import logging
import socket as _socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dedup.errors import ConfigError, DedupError, LockedError, StalledError
from dedup.review.accounts import Accounts, Reviewer
from dedup.review.desk import Desk, MissingError, conflict_told, described
from dedup.review.ledger import RefusedError
from dedup.review.pictures import Pictures
from dedup.review.security import App, Guard

log = logging.getLogger("dedup")

PAGE = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
COOKIE = "dedup_review"
MOST_ITEMS = 100
RETRY = {"Retry-After": "2"}

Values = Mapping[str, Any]
Answer = Callable[[Request, Reviewer], Any]


class ReviewApp:
    """Routes of the app.

    Args:
        desk: the run under review.
        pictures: its pictures.
        accounts: who may review.
        is_secure: whether the page comes over https, so that the cookie must, too.
        sso_header: header in which a trusted proxy names the reviewer; ``None`` for none.
    """

    def __init__(
        self,
        desk: Desk,
        pictures: Pictures,
        accounts: Accounts,
        is_secure: bool = False,
        sso_header: str | None = None,
    ) -> None:
        self.desk, self.pictures, self.accounts = desk, pictures, accounts
        self.is_secure, self.sso_header = is_secure, sso_header
        self.files = {
            file.name: (file.read_bytes(), KINDS[file.suffix])
            for file in sorted(PAGE.iterdir())
            if file.suffix in KINDS
        }

    def routes(self) -> list[Route]:
        """List the routes."""
        get = {
            "/api/work": self._work, "/api/stats": self._stats, "/api/rules": self._rules,
            "/api/sample": self._sample, "/api/history": self._history,
            "/api/batches": self._batches, "/api/difference": self._difference,
            "/api/me": self._me,
        }  # fmt: skip
        post = {
            "/api/decisions": self._decide, "/api/undo": self._undo, "/api/skip": self._skip,
            "/api/renew": self._renew, "/api/release": self._release, "/api/rule": self._rule,
        }  # fmt: skip
        return [
            Route("/", self._page, methods=["GET"]),
            Route("/static/{name}", self._file, methods=["GET"]),
            Route("/api/session", self._session, methods=["POST"]),
            Route("/pictures/{digest}.jpg", self._guarded(self._picture), methods=["GET"]),
            Route("/pictures/{left}/{right}.jpg", self._guarded(self._painted), methods=["GET"]),
            Route("/export/decisions.jsonl", self._guarded(self._export), methods=["GET"]),
            *(Route(path, self._guarded(call), methods=["GET"]) for path, call in get.items()),
            *(Route(path, self._guarded(call), methods=["POST"]) for path, call in post.items()),
        ]

    def asgi(self, origins: list[str], proxies: list[str] | None = None) -> App:
        """Make the application behind its guard."""
        inner = Starlette(
            routes=self.routes(),
            exception_handlers={HTTPException: _http_error},  # type: ignore[dict-item]
        )
        return Guard(inner, origins, proxies or ())

    async def _page(self, request: Request) -> Response:
        content, kind = self.files["index.html"]
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    async def _file(self, request: Request) -> Response:
        found = self.files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "there is no such file")
        return Response(found[0], media_type=found[1], headers={"Cache-Control": "no-cache"})

    async def _session(self, request: Request) -> Response:
        """Exchange a link's token for a cookie."""
        token = (await _body(request)).get("token")
        session = None
        if isinstance(token, str) and len(token) < 200:
            session = await run_in_threadpool(self.accounts.begin, token)
        if session is None:
            raise HTTPException(403, "this link was used before, or is wrong: start again")
        answer = JSONResponse({"ok": True})
        answer.set_cookie(
            COOKIE, session, max_age=30 * 86400, httponly=True, samesite="strict",
            secure=self.is_secure, path="/",
        )  # fmt: skip
        return answer

    def _guarded(self, call: Answer) -> Callable[[Request], Awaitable[Response]]:
        """Let a known reviewer alone call a route, and turn errors into answers."""

        async def answer(request: Request) -> Response:
            body = await _body(request) if request.method == "POST" else {}
            request.state.body = body
            try:
                reviewer = await run_in_threadpool(self._reviewer, request)
                if reviewer is None:
                    raise HTTPException(401, "open the link that the command printed")
                result = await run_in_threadpool(partial(call, request, reviewer))
            except RefusedError as error:
                told = [conflict_told(conflict) for conflict in error.conflicts]
                return JSONResponse({"error": str(error), "conflicts": told}, 409)
            except MissingError as error:
                return JSONResponse({"error": str(error)}, 404)
            except (LockedError, StalledError) as error:
                return JSONResponse({"error": str(error)}, 503, RETRY)
            except (KeyError, TypeError, ValueError, ConfigError) as error:
                text = (
                    str(error) if isinstance(error, ConfigError) else f"a value is wrong: {error}"
                )
                return JSONResponse({"error": text}, 400)
            except DedupError as error:
                log.error("%s", error)
                return JSONResponse({"error": str(error)}, 500)
            if isinstance(result, Response):
                return result
            status, values = result if isinstance(result, tuple) else (200, result)
            return JSONResponse(values, status, {"Cache-Control": "no-store"})

        return answer

    def _reviewer(self, request: Request) -> Reviewer | None:
        if self.sso_header is not None:
            name = request.headers.get(self.sso_header, "").strip()
            return self.accounts.named(name) if name else None
        session = request.cookies.get(COOKIE, "")
        return self.accounts.reviewer(session) if session else None

    def _me(self, request: Request, reviewer: Reviewer) -> Values:
        return {
            "name": reviewer.name, "role": reviewer.role, "columns": self.desk.table.columns,
            "facets": self.desk.queue.facets(), "run": self.desk.run,
            "total": len(self.desk.items),
        }  # fmt: skip

    def _work(self, request: Request, reviewer: Reviewer) -> Values:
        query = request.query_params
        n = int(query.get("n", "20"))
        if not 0 < n <= MOST_ITEMS:
            raise ConfigError(f"n={n}: 1 to {MOST_ITEMS} items are given at once")
        held = [int(number) for number in query.get("held", "").split(",") if number]
        name, sign, value = query.get("filter", "").partition("=")
        facet = (name, value) if sign else None
        return self.desk.next(n, reviewer.name, query.get("order", "sure"), facet, held)

    def _decide(self, request: Request, reviewer: Reviewer) -> tuple[int, Values]:
        body = request.state.body
        batch, source = str(body["batch"]), str(body.get("source", "key"))
        is_known = batch in self.desk.ledger.history.batches
        rows = self.desk.decide(batch, _dicts(body["choices"]), reviewer.name, source)
        told = {"batch": batch, "decisions": [described(row) for row in rows]}
        return (200 if is_known else 201), told

    def _undo(self, request: Request, reviewer: Reviewer) -> Values:
        body = request.state.body
        undone, batch = str(body["undo"]), str(body["batch"])
        owner = self.desk.owner(undone)
        if owner not in ("", reviewer.name) and reviewer.role != "lead":
            raise HTTPException(403, f"{owner} made this batch: ask {owner} or a lead to undo it")
        return {"items": self.desk.undo(undone, batch, reviewer.name)}

    def _skip(self, request: Request, reviewer: Reviewer) -> Values:
        self.desk.skip(_numbers(request.state.body["items"]), reviewer.name)
        return {"ok": True}

    def _renew(self, request: Request, reviewer: Reviewer) -> Values:
        return {"seconds": self.desk.renew(_numbers(request.state.body["items"]), reviewer.name)}

    def _release(self, request: Request, reviewer: Reviewer) -> Values:
        self.desk.release(_numbers(request.state.body["items"]), reviewer.name)
        return {"ok": True}

    def _rules(self, request: Request, reviewer: Reviewer) -> Values:
        return {"rules": self.desk.list_rules()}

    def _sample(self, request: Request, reviewer: Reviewer) -> Values:
        return self.desk.sample(int(request.query_params["rule"]), reviewer.name)

    def _rule(self, request: Request, reviewer: Reviewer) -> tuple[int, Values]:
        body = request.state.body
        batch = str(body["batch"])
        rows = self.desk.decide_rule(int(body["rule"]), batch, reviewer.name)
        return 201, {"batch": batch, "n": len(rows)}

    def _stats(self, request: Request, reviewer: Reviewer) -> Values:
        return self.desk.stats()

    def _history(self, request: Request, reviewer: Reviewer) -> Values:
        return self.desk.history(request.query_params["product"])

    def _batches(self, request: Request, reviewer: Reviewer) -> Values:
        return {"batches": self.desk.latest()}

    def _difference(self, request: Request, reviewer: Reviewer) -> Values:
        query = request.query_params
        found = self.pictures.differing(query["left"], query["right"])
        if found is None:
            raise HTTPException(404, "there is no such picture")
        region = None if found.region is None else list(map(float, found.region))
        return {"region": region, "has_map": found.picture is not None}

    def _picture(self, request: Request, reviewer: Reviewer) -> Response:
        return _as_jpeg(self.pictures.jpeg(request.path_params["digest"]))

    def _painted(self, request: Request, reviewer: Reviewer) -> Response:
        path = request.path_params
        found = self.pictures.differing(path["left"], path["right"])
        return _as_jpeg(None if found is None else found.picture)

    def _export(self, request: Request, reviewer: Reviewer) -> Response:
        return Response(
            self.desk.ledger.exported(), media_type="application/jsonl",
            headers={"Content-Disposition": 'attachment; filename="decisions.jsonl"'},
        )  # fmt: skip


def _as_jpeg(content: bytes | None) -> Response:
    """Send a picture; its name says what is in it, so it may be kept."""
    if content is None:
        raise HTTPException(404, "there is no such picture")
    kept = {"Cache-Control": "private, max-age=86400, immutable"}
    return Response(content, media_type="image/jpeg", headers=kept)


async def _body(request: Request) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        HTTPException: the body is none.
    """
    try:
        values = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the request is no JSON") from error
    if not isinstance(values, dict):
        raise HTTPException(400, "the request is no JSON object")
    return values


def _dicts(values: Any) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(one, dict) for one in values):
        raise ConfigError("choices must be a list of objects")
    return values


def _numbers(values: Any) -> list[int]:
    if not isinstance(values, list) or not all(type(one) is int for one in values):
        raise ConfigError("items must be a list of numbers")
    return values


async def _http_error(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code)


def listen(host: str, port: int) -> _socket.socket:
    """Open the port of the server.

    Raises:
        ConfigError: it cannot be opened.
    """
    listener = _socket.socket(_socket.AF_INET6 if ":" in host else _socket.AF_INET)
    listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"server.port={port} of {host} cannot be opened ({error.strerror}): choose another "
            "port, or server.port=0 for any that is free"
        ) from error
    return listener


def serve(app: App, listener: _socket.socket, started: Callable[[], None]) -> None:
    """Serve until the process is told to stop.

    Args:
        app: the application.
        listener: its port.
        started: called when requests are answered.
    """
    config = uvicorn.Config(
        app, log_level="warning", log_config=None, access_log=False, server_header=False,
        lifespan="off", timeout_graceful_shutdown=3, proxy_headers=False,
    )  # fmt: skip
    server = _Announced(config, started)
    server.run([listener])


class _Announced(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started_call = started

    async def startup(self, sockets: list[_socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started_call()
