"""A whole run: workers make what is not there yet, and one run at a time is in a folder.

A run leaves nothing but its results in the output folder. Each carries a mark (marks.py) with
digests of its source and of the settings, is written atomically, and does not depend on the number
of workers. So a run that was killed is simply started again: marked results that are still up to
date are kept, the rest is made, and the folder ends as if nothing had happened.

Files named on the command line take the same road, without marks and without a folder of their own.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

from vrcodec.batch import storage, worker
from vrcodec.batch.jobs import Job
from vrcodec.batch.listing import Task
from vrcodec.batch.local_engine import Engine
from vrcodec.batch.settings import RunSettings
from vrcodec.batch.worker import Row
from vrcodec.errors import VrcodecError, naming
from vrcodec.files import remove_temporaries

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


def run(
    tasks: Iterable[Task], job: Job, settings: RunSettings, engine: Engine
) -> Generator[Row, None, None]:
    """Make all results that are not there yet.

    A task that fails, even by the death of its worker, does not stop the others. Memory does not
    grow with the number of tasks.

    Args:
        tasks: from `list_folder`, or made by hand.
        job: what is done with each.
        settings: of the run.
        engine: has the tasks done; the caller closes it.

    Yields:
        One row per task, as they come to an end. After a KeyboardInterrupt see
        `local_engine.rest_of`.

    Raises:
        VrcodecError: the output folder cannot be made, another run is at work in it, or the model
            cannot be loaded.
    """
    do = functools.partial(worker.work, job=job, run=settings)
    with contextlib.ExitStack() as stack:
        if settings.marked and settings.out is not None:
            stack.enter_context(alone_in(settings.out))
        yield from engine.work_through(tasks, do)


@contextlib.contextmanager
def alone_in(out: str) -> Iterator[None]:
    """Make a folder, keep a second run out of it where the system can, and leave it clean."""
    if storage.is_url(out):
        yield
        return
    with contextlib.ExitStack() as stack:
        with naming(out):
            os.makedirs(out, exist_ok=True)
            with contextlib.suppress(ImportError):
                import fcntl

                handle = os.open(out, os.O_RDONLY)
                stack.callback(os.close, handle)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise VrcodecError("another run is at work in this folder") from None
                except OSError as error:
                    if error.errno not in _NO_LOCKS:
                        raise
        remove_temporaries(Path(out))
        try:
            yield
        finally:
            remove_temporaries(Path(out))
