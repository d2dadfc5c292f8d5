"""The page's address for a browser, and for nobody else.

Every user of a machine can see the arguments of every process, and the address has the token that
lets one in. So a browser is given a private file that sends it there, as Jupyter does it.
"""

from __future__ import annotations

import contextlib
import html
import os
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

_PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}">
<title>vrcodec explore</title>
<a href="{address}">vrcodec explore</a>
"""


@contextlib.contextmanager
def opened(address: str) -> Iterator[Callable[[], None]]:
    """Send a browser to an address, in a thread of its own: some stay until they are closed.

    Yields:
        What removes the private file, to be called when the address was asked for; the end of the
        context does so at the latest.
    """
    with tempfile.TemporaryDirectory(prefix="vrcodec-", ignore_cleanup_errors=True) as folder:
        page = Path(folder) / "explore.html"
        handle = os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(_PAGE.format(address=html.escape(address)))
        threading.Thread(target=_look, args=(page.as_uri(),), daemon=True).start()
        yield lambda: page.unlink(missing_ok=True)


def _look(address: str) -> None:
    with contextlib.suppress(webbrowser.Error, OSError):  # the address was printed, too
        webbrowser.open(address)
