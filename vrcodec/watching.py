"""Something to do once a module is there, be it imported already, or later by somebody else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
else:
    Loader = object  # importlib.abc takes longer to import than all else here


def when_imported(name: str, call: Callable[[], object]) -> None:
    """Call something as soon as a module is imported: now, if it is.

    So a program that never imports the module does not pay for it.
    """
    if name in sys.modules:
        call()
    else:
        sys.meta_path.insert(0, _Finder(name, call))


class _Finder:
    """Finds one module as the others do, and adds the call to what loads it.

    It stays in the list: taking it out would disturb imports in other threads.
    """

    def __init__(self, name: str, call: Callable[[], object]) -> None:
        self._name, self._call = name, call
        self._asks_others = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name or self._asks_others:
            return None
        import importlib.util

        self._asks_others = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asks_others = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._call)
        return spec


class _Loader(Loader):
    """Loads a module as another loader does, calls, and leaves no trace in the module."""

    def __init__(self, other: Loader, call: Callable[[], object]) -> None:
        self._other, self._call = other, call

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._other.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._other
        if module.__spec__ is not None:
            module.__spec__.loader = self._other
        self._other.exec_module(module)
        self._call()
