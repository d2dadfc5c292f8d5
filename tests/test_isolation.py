"""A codec inside somebody else's process: his settings and threads do not reach it, nor its him."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunVrcodec, picture

import vrcodec
from vrcodec import Codec
from vrcodec.cli import WAITING
from vrcodec.model import isolation


@pytest.fixture(scope="module")
def codec(tiny_weights: Path) -> Codec:
    return Codec(tiny_weights, "cpu", threads=1, runtime="torch")


def code(codec: Codec, effort: int = 0) -> tuple[bytes, np.ndarray]:
    data = codec.encode(picture(1), 0.6, effort=effort)
    return data, np.asarray(codec.decode(data))


@contextlib.contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def low_precision() -> Iterator[None]:
    torch.set_float32_matmul_precision("medium")
    try:
        yield
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@contextlib.contextmanager
def default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


SURROUNDINGS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default dtype": default_dtype,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "matmul precision": low_precision,
    "default device": default_device,
}


@pytest.mark.slow
@pytest.mark.parametrize("effort", [0, 1])
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_the_callers_settings_do_not_reach_the_networks(
    name: str, effort: int, codec: Codec, tiny_weights: Path
) -> None:
    expected_data, expected = code(codec, effort)
    with SURROUNDINGS[name]():
        again_data, again = code(codec, effort)
        made_here = code(Codec(tiny_weights, "cpu", threads=1, runtime="torch"), effort)
    for data, pixels in ((again_data, again), made_here):
        assert data == expected_data
        np.testing.assert_array_equal(pixels, expected)
    after_data, after = code(codec, effort)  # what was made in there serves outside as well
    assert after_data == expected_data
    np.testing.assert_array_equal(after, expected)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_is_as_before(threads: int, tiny_weights: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for wanted in (None, 1, 2):
            mine = Codec(tiny_weights, "cpu", threads=wanted, runtime="torch")
            assert torch.get_num_threads() == threads
            code(mine, effort=1)
            assert torch.get_num_threads() == threads
            with pytest.raises(vrcodec.FormatError):
                mine.decode(b"VRC")
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_codec_never_changes(codec: Codec) -> None:
    for name in ("effort", "max_pixels", "tile_side"):
        with pytest.raises(AttributeError, match=name):
            setattr(codec, name, 1)
    shown = rf"<vrcodec.Codec: weights {codec.weights_id}, cpu, PyTorch \S+, dials quality>"
    assert re.fullmatch(shown, repr(codec))


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_impossible_threads_are_refused(threads: object, tiny_weights: Path) -> None:
    with pytest.raises(vrcodec.VrcodecError, match="threads"):
        Codec(tiny_weights, "cpu", threads=threads)  # type: ignore[arg-type]


def test_impossible_precision_is_refused(tiny_weights: Path) -> None:
    with pytest.raises(vrcodec.VrcodecError, match="auto, float32, bfloat16"):
        Codec(tiny_weights, "cpu", precision="half")


@pytest.mark.slow
def test_precision_is_about_effort_alone(tiny_weights: Path) -> None:
    exact, rough = (
        Codec(tiny_weights, "cpu", 10**6, 1, p, runtime="torch") for p in ("float32", "bfloat16")
    )
    assert exact.encode(picture(1), 0.5) == rough.encode(picture(1), 0.5)
    made = [one.encode(picture(1), 0.5, effort=3) for one in (exact, rough)]
    assert made[0] != made[1]
    assert abs(len(made[0]) - len(made[1])) < 0.02 * len(made[0])


@pytest.mark.slow
def test_eight_threads_load_one_model(tiny_weights: Path) -> None:
    """Through the module's functions, the first time they are used in a process."""
    script = f"""
import threading
from concurrent.futures import ThreadPoolExecutor
from vrcodec.codec import codec
import vrcodec
from PIL import Image
made = []
class Counted(codec.Codec):
    def __init__(self, *arguments, **keywords):
        made.append(1)
        super().__init__(*arguments, **keywords)
codec.Codec = Counted
image = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
start = threading.Barrier(8)
def work(number):
    start.wait()
    return vrcodec.encode(image, number / 10, weights={str(tiny_weights)!r})
with ThreadPoolExecutor(8) as pool:
    files = list(pool.map(work, range(8)))
start = threading.Barrier(1)
assert files == [work(number) for number in range(8)]
print(len(made))
"""
    assert run_script(script).split() == ["1"]


def test_threads_at_once_make_the_same_files(codec: Codec) -> None:
    expected = [codec.encode(picture(n), 0.5) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: codec.encode(picture(n % 4), 0.5), range(12)))
    assert made == expected * 3


FORKED = """
import multiprocessing, os, sys
import numpy as np
import torch
from PIL import Image
import vrcodec
from vrcodec import Codec

torch.set_num_threads(2)
image = Image.linear_gradient("L").resize((700, 600)).convert("RGB")
codec = Codec(sys.argv[1], "cpu", runtime="torch")
data = codec.encode(image, 0.5)
shared = vrcodec.encode(image, 0.5, weights=sys.argv[1])
codec.decode(data)  # the threads of OpenMP are there now

def work(number):
    alone = Codec(sys.argv[1], "cpu", threads=2, runtime="torch")
    again = vrcodec.encode(image, 0.5, weights=sys.argv[1])
    refined = codec.encode(image.crop((0, 0, 70, 60)), 0.5, effort=1)
    seen = [np.asarray(one.decode(data)).astype(int) for one in (codec, alone)]
    return len(again), len(refined), int(np.abs(seen[0] - seen[1]).max()), torch.get_num_threads()

with multiprocessing.get_context("fork").Pool(2) as pool:
    for size, refined, apart, threads in pool.map(work, range(4)):
        assert abs(size - len(shared)) <= 8 and refined > 0 and apart == 0
print("done")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_children_code_with_one_thread(tiny_weights: Path) -> None:
    """A pool forked after its parent has coded used to wait for ever."""
    assert run_script(FORKED, str(tiny_weights)).split() == ["done"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_children_and_gpus_are_one_clear_error() -> None:
    script = """
import os, sys
import torch
from vrcodec import VrcodecError
from vrcodec.model.isolation import isolated
if os.fork() == 0:
    try:
        with isolated(torch.device("cuda")):
            pass
    except VrcodecError as error:
        print(error)
        sys.stdout.flush()
        os._exit(0)
    os._exit(1)
assert os.wait()[1] == 0
"""
    assert run_script(script).startswith("cuda cannot be used in a forked process")


@pytest.mark.slow
def test_memory_is_bounded_over_many_sizes(tiny_weights: Path) -> None:
    """oneDNN keeps what it prepared for every shape it met."""
    script = """
import random, resource, sys
from pathlib import Path
from PIL import Image
import vrcodec
random.seed(2)
image = Image.linear_gradient("L").resize((256, 256)).convert("RGB")
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20
def work(count):
    for _ in range(count):
        size = random.randint(16, 256), random.randint(16, 256)
        vrcodec.encode(image.crop((0, 0, *size)), 0.4)
work(60)
before = resident()
work(240)
print(resident() - before)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("looks into /proc")
    assert int(run_script(script)) < 60


@pytest.mark.slow
def test_few_prepared_operations_are_kept() -> None:
    """The same work in a process where oneDNN keeps its usual thousand grows by much more."""
    script = """
import ctypes, resource, sys
from pathlib import Path
import torch
from vrcodec.model import isolation
def resident():
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 10
if sys.argv[1] == "bound":
    isolation.bound_primitive_cache()
torch.set_num_threads(1)
wide, narrow = torch.ones(64, 64, 3, 3), torch.ones(64, 64, 1, 1)
before = None
for i in range(900):
    x = torch.ones(1, 64, 8 + i % 30, 8 + i // 30).to(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.nn.functional.conv2d(x, wide, padding=1)
        torch.nn.functional.conv2d(x, narrow)
    before = before or resident()
print(resident() - before)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("looks into /proc")
    bound, free = (int(run_script(script, how)) for how in ("bound", "free"))
    assert bound < 0.8 * free


def test_memory_goes_back_after_some_changes_of_size(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[int] = []
    monkeypatch.setattr(isolation, "_malloc_trim", lambda: given_back.append)
    tidying = isolation.Tidying()
    for _ in range(100):
        tidying.after((1, 3, 64, 64))
    assert not given_back
    for width in range(3 * tidying.EVERY):
        tidying.after((1, 3, 64, width))
    assert len(given_back) == 3


@pytest.mark.parametrize(
    ("said", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "active"}, "ACTIVE")]
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of GNU's OpenMP")
def test_threads_of_the_command_line_wait_calmly(
    said: dict[str, str],
    policy: str,
    run_vrcodec: RunVrcodec,
    vrcodec_environment: dict[str, str],
) -> None:
    environment = {k: v for k, v in vrcodec_environment.items() if k not in WAITING}
    result = run_vrcodec("selftest", env=environment | {"OMP_DISPLAY_ENV": "true"} | said)
    assert result.returncode == 0
    assert f"OMP_WAIT_POLICY = '{policy}'" in result.stderr.decode()


PRODUCT = """
import os, sys
from vrcodec.cli import calm_threads
calm_threads()
assert "numpy" not in sys.modules
import numpy as np
a = np.ones((500, 500))
a @ a
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="looks at /proc, and at more than one thread",
)
@pytest.mark.parametrize(("said", "threads"), [("", 1), ("2", 2)])
def test_products_of_the_command_line_need_no_threads_of_their_own(
    said: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if said:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", said)
    assert int(run_script(PRODUCT)) == threads


def run_script(script: str, *arguments: str) -> str:
    path = [str(Path(vrcodec.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
