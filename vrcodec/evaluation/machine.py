"""The machine that measures: how busy it is, and how much memory a process has taken."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys

_IDLE = 0.25
"""Share of the cores that may be busy with other things on a machine called idle."""


def load_average() -> float | None:
    """Processes at work or waiting for a core, mean over the last minute; None if not known."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


@dataclasses.dataclass(frozen=True)
class Load:
    """How busy the machine was while something was measured.

    Attributes:
        start, end: load averages; None where the system does not tell.
        own: threads that measured, which are in `end`.
        cores: of the machine.
    """

    start: float | None
    end: float | None
    own: int
    cores: int

    @property
    def busy(self) -> bool:
        """Whether other work on the machine will have made times longer."""
        limit = _IDLE * self.cores
        others = (self.start or 0, (self.end or 0) - min(self.own, self.cores))
        return max(others) > limit

    def __str__(self) -> str:
        """For people, one line."""
        start, end = ("?" if value is None else f"{value:.1f}" for value in (self.start, self.end))
        cores = f"{self.cores} core{'s' * (self.cores > 1)}"
        text = f"load {start} at the start and {end} at the end, on {cores}"
        if not self.busy:
            return text
        return f"busy machine: {text}; times are longer than on an idle one"


class LoadWatch:
    """Looks at the load when made, and again when asked.

    Args:
        own: threads that will measure.
    """

    def __init__(self, own: int) -> None:
        self.start = load_average()
        self.own = own

    def now(self) -> Load:
        """The load from then to now."""
        return Load(self.start, load_average(), self.own, os.cpu_count() or 1)


def description() -> str:
    """The machine in words."""
    return (
        f"{platform.system()} on {platform.machine()} with {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    )


def peak_bytes() -> int | None:
    """Most resident memory of this process so far.

    Linux: VmHWM, since ru_maxrss begins there with what the parent process had.
    """
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
