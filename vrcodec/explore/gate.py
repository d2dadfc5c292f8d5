"""Who is answered at all: the page itself.

The server listens on 127.0.0.1 alone. Other pages in the same browser can send requests there, too,
and names that lead there can be made up; so every request has to name the right host, may come from
no other origin, and has to know a token that is in the address which was printed.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

HOST = "127.0.0.1"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_OWN_SITES = {None, "same-origin", "none"}


class Gate:
    """Lets nobody in but the page itself, and puts headers on every answer."""

    def __init__(self, app: Any, token: str, port: int) -> None:
        self._app, self._token = app, token
        self._hosts = {f"{HOST}:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.datastructures import Headers, MutableHeaders
        from starlette.responses import PlainTextResponse

        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refused = self._refusal(Headers(scope=scope), scope["path"])
        app = PlainTextResponse(refused[1], refused[0]) if refused else self._app
        await app(scope, receive, send_with_headers)

    def _refusal(self, headers: Mapping[str, str], path: str) -> tuple[int, str] | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self._hosts:
            return 421, "this server answers to no such name"
        if origin is not None and origin != f"http://{host}":
            return 403, "this server answers no other site"
        token = path.split("/")[1] if path.startswith("/") else ""
        if not secrets.compare_digest(token.encode(), self._token.encode()):
            return 404, "the address lacks its token: take the one that was printed"
        if headers.get("sec-fetch-site") not in _OWN_SITES and path != f"/{self._token}/":
            return 403, "this server answers no other site"
        return None
