"""A page's server from its start to its end."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable
from typing import Any

from vrcodec import extras
from vrcodec.errors import VrcodecError, reason
from vrcodec.explore.browser import opened
from vrcodec.explore.gate import HOST
from vrcodec.explore.server import Desk, make_app

PACKAGES = ("starlette", "uvicorn")
_GRACE = 2
"""Seconds that requests at work have when the server ends."""


def listen(port: int = 0) -> socket.socket:
    """A socket on this machine alone, on any free port with 0. Raises VrcodecError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise VrcodecError(f"{HOST}:{port}: {reason(error)}") from error
    return listener


def serve(
    desk: Desk, listener: socket.socket, ready: Callable[[str], None], browse: bool = False
) -> None:
    """Answer a page until the process is interrupted.

    Args:
        ready: told the page's address; what is asked from then on is answered.
        browse: open the page in a browser.

    Raises:
        VrcodecError: a package is not installed.
    """
    extras.require(*PACKAGES)
    import uvicorn

    token, port = secrets.token_urlsafe(16), listener.getsockname()[1]

    options: dict[str, Any] = {
        "log_level": "error",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_graceful_shutdown": _GRACE,
        "ws": "none",
    }
    config = uvicorn.Config(make_app(desk, token, port), **options)
    address = f"http://{HOST}:{port}/{token}/"
    ready(address)
    with contextlib.ExitStack() as stack:
        if browse:
            desk.seen = stack.enter_context(opened(address))
        uvicorn.Server(config).run(sockets=[listener])
