"""Work in threads, one thing at a time in each lane; who has gone away is not worked for."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from vrcodec.errors import one_line
from vrcodec.explore.work import Line, Tell

_Result = TypeVar("_Result")


class _GoneError(Exception):
    """Nobody waits for this any longer."""


class Lane:
    """A queue of work for which there is one place.

    What is wanted at once and what takes long have lanes of their own, so that the one does not
    wait for the other.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def _started(self, work: Callable[[], _Result]) -> asyncio.Task[_Result]:
        """Begin something in a thread when it is its turn, which ends when the thread does."""
        await self._lock.acquire()
        task = asyncio.create_task(asyncio.to_thread(work))
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[_Result]) -> None:
        self._lock.release()
        if not task.cancelled():
            task.exception()  # told to whoever waits, or nobody does

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Do something short in a thread when it is its turn."""
        return await asyncio.shield(await self._started(work))

    async def lines(self, work: Callable[[Tell], None]) -> AsyncIterator[bytes]:
        """Do something long; what it tells comes as lines of JSON, the last maybe an `error`.

        Where this is closed before its end, the work ends when it next tells something.
        """
        gone, told = threading.Event(), asyncio.Queue[Line | None]()
        loop = asyncio.get_running_loop()

        def put(line: Line | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(told.put_nowait, line)

        def tell(line: Line | None = None) -> None:
            if gone.is_set():
                raise _GoneError
            if line:
                put(line)

        def run() -> None:
            try:
                work(tell)
            except _GoneError:
                pass
            except Exception as error:
                put({"error": one_line(error)})
            finally:
                put(None)

        await self._started(run)
        try:
            while (line := await told.get()) is not None:
                yield json.dumps(line).encode() + b"\n"
        finally:
            gone.set()
