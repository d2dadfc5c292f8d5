"""Stages: silent unless somebody listens, and times that add up."""

from __future__ import annotations

import itertools
import threading

import pytest

from vrcodec.codec.stages import listening, stage


def test_times_are_each_stages_own() -> None:
    heard: list[tuple[str, float]] = []
    ticks = itertools.count()
    with listening(lambda *fact: heard.append(fact), lambda: float(next(ticks))):
        with stage("outer"), stage("inner"):
            pass
        with pytest.raises(KeyError), stage("broken"):
            raise KeyError
    with stage("unheard"):
        pass
    assert heard == [("inner", 1.0), ("outer", 2.0), ("broken", 1.0)]


def test_other_threads_are_not_heard() -> None:
    heard: list[str] = []

    def work() -> None:
        with stage("elsewhere"):
            pass

    with listening(lambda name, _: heard.append(name)):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        with stage("here"):
            pass
    assert heard == ["here"]
