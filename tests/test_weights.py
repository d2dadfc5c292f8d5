"""Weights files: whatever is wrong with one is said in one line, before it costs anything."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from conftest import RunVrcodec, linux_only
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from vrcodec.bitstream.container import unpack
from vrcodec.codec.codec import Codec
from vrcodec.errors import UnknownWeightsError, VrcodecError, WeightsError
from vrcodec.model import weights_file
from vrcodec.model.config import ModelConfig
from vrcodec.model.identity import identify
from vrcodec.model.loading import build
from vrcodec.model.weights_file import check_named, content_id, load_weights, save_weights

DATA = Path(__file__).parents[1] / "vrcodec" / "data" / "golden"
TINY = (DATA / "tiny.safetensors").read_bytes()
TENSORS: dict[str, NDArray] = safetensors.numpy.load(TINY)
CONFIG: str = json.loads(TINY[8 : 8 + struct.unpack("<Q", TINY[:8])[0]])["__metadata__"]["config"]
DEVIATION, STEP = "model.basis.deviation16", "model.log_step.values"
MEMORY = 4_000_000
"""Address space in KiB that every refusal has to do with, Python and torch included."""


def crafted(changes: dict[str, NDArray | None] | None = None, config: str | None = CONFIG) -> bytes:
    """The tiny weights with other tensors (None: without one), or another configuration."""
    tensors = {n: t for n, t in (TENSORS | (changes or {})).items() if t is not None}
    metadata = None if config is None else {"config": config}
    return safetensors.numpy.save(tensors, metadata=metadata)


def with_header(change: Callable[[dict[str, dict[str, object]]], object]) -> bytes:
    """The tiny weights with another header, whether it is true or not."""
    length = struct.unpack("<Q", TINY[:8])[0]
    header = json.loads(TINY[8 : 8 + length])
    change(header)
    return sealed(json.dumps(header).encode(), TINY[8 + length :])


def sealed(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def filled(name: str, value: float) -> dict[str, NDArray | None]:
    return {name: np.full_like(TENSORS[name], value)}


def one_value(name: str, value: float) -> dict[str, NDArray | None]:
    changed = TENSORS[name].copy()
    changed.flat[changed.size // 2] = value
    return {name: changed}


def config(**changes: object) -> bytes:
    return crafted(config=json.dumps(json.loads(CONFIG) | changes))


HEAD = "model.synthesis.head.bias"
COUNTS = TENSORS["tables.y.counts"]
HOSTILE = {
    "empty": b"",
    "text": b"not a weights file at all",
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(400),
    "zeros": bytes(100_000),
    "header-huge": struct.pack("<Q", 1 << 60) + TINY[8:],
    "header-100MB": struct.pack("<Q", 100_000_000) + bytes(1000),
    "header-long": sealed(b"{" + b" " * (3 << 20) + b"}"),
    "header-deep": sealed(b'{"a":' * 100_000),
    "header-arrays": sealed(b"[" * 100_000 + b"]" * 100_000),
    "header-no-object": sealed(b"7"),
    "header-empty": sealed(b"{}"),
    "header-not-utf8": sealed(b'{"\xff":1}'),
    "metadata-list": with_header(lambda h: h.update(__metadata__=["config"])),  # type: ignore
    "metadata-null": with_header(lambda h: h.update(__metadata__=None)),  # type: ignore
    "metadata-deep": sealed(b'{"__metadata__":' + b"[" * 100_000),
    "metadata-number": with_header(lambda h: h["__metadata__"].update(config=7)),
    "offsets-beyond": with_header(lambda h: h[HEAD].update(data_offsets=[0, 1 << 40])),
    "offsets-negative": with_header(lambda h: h[HEAD].update(data_offsets=[-4, 764])),
    "offsets-backwards": with_header(lambda h: h[HEAD].update(data_offsets=[768, 0])),
    "offsets-overlap": with_header(lambda h: h[HEAD].update(h[DEVIATION])),
    "shape-huge": with_header(lambda h: h[HEAD].update(shape=[1 << 62, 4])),
    "shape-negative": with_header(lambda h: h[HEAD].update(shape=[-192])),
    "shape-other": with_header(lambda h: h[HEAD].update(shape=[191])),
    "shape-deep": with_header(lambda h: h[HEAD].update(shape=[1] * 100 + [192])),
    "dtype-unknown": with_header(lambda h: h[HEAD].update(dtype="F33")),
    "dtype-number": with_header(lambda h: h[HEAD].update(dtype=32)),
    "dtype-integers": with_header(lambda h: h[HEAD].update(dtype="I32")),
    "dtype-bytes": with_header(lambda h: h[HEAD].update(dtype="U8", shape=[768])),
    "cut": TINY[:-1],
    "cut-header": TINY[:1000],
    "cut-length": TINY[:5],
    "longer": TINY + b"\0",
    "no-tensors": safetensors.numpy.save({}, metadata={"config": CONFIG}),
    "no-config": crafted(config=None),
    "config-empty": crafted(config=""),
    "config-deep": crafted(config="[" * 100_000),
    "config-deep-valid": crafted(config='{"core":' * 20_000 + "1" + "}" * 20_000),
    "config-infinite": crafted(config=CONFIG.replace("0.5", "1e400")),
    "config-long-number": config(width8=10**400),
    "config-longer-number": crafted(config=CONFIG.replace(": 8", ": " + "8" * 5000)),
    "width-infinite": config(width8=float("inf")),
    "width-zero": config(width8=0),
    "width-negative": config(width16=-8),
    "width-fraction": config(width16=8.5),
    "width-boolean": config(width16=True),
    "blocks-infinite": config(analysis_blocks=[1, float("inf")]),
    "blocks-many": config(analysis_blocks=[64, 64], synthesis_blocks=[64, 64], context_blocks=64),
    "blocks-too-many": config(synthesis_blocks=[1, 10**9]),
    "everything-wide": config(width8=2048, width16=2048, hyper_width=2048, context_width=2048),
    "hyper-wide": config(hyper=2048),
    "film-wide": config(film_width=2048),
    "lambda-infinite": config(lambda_ranges=[[0.001, float("inf")]]),
    "lambda-nan": config(lambda_ranges=[[float("nan"), 1]]),
    "lambda-negative": config(lambda_ranges=[[-1, 1]]),
    "lambda-tiny": config(lambda_ranges=[[1e-300, 1]]),
    "lambda-none": config(lambda_ranges=[]),
    "lambda-two": config(lambda_ranges=[[0.1, 1], [0.1, 1]]),
    "lambda-text": config(lambda_ranges="ab"),
    "learned-text": config(learned_linear="yes"),
    "learned": config(learned_linear=True),
    "deviation-zero": crafted(filled(DEVIATION, 0)),
    "deviation-one-zero": crafted(one_value("model.basis.deviation8", 0)),
    "deviation-negative": crafted(one_value(DEVIATION, -1)),
    "deviation-huge": crafted(filled(DEVIATION, 1e38)),
    "deviation-denormal": crafted(filled(DEVIATION, 1e-40)),
    "deviation-nan": crafted(one_value(DEVIATION, float("nan"))),
    "parameter-nan": crafted(one_value(HEAD, float("nan"))),
    "parameter-infinite": crafted(one_value("model.synthesis.stem.weight", float("-inf"))),
    "parameter-huge": crafted(one_value(HEAD, 3e38)),
    "step-huge": crafted(filled(STEP, 100)),
    "step-vanishing": crafted(filled(STEP, 50)),
    "step-infinite": crafted(one_value(STEP, float("inf"))),
    "missing": crafted({HEAD: None}),
    "missing-integers": crafted({"fixed.3.bias": None}),
    "missing-tables": crafted({"tables.z.low": None}),
    "superfluous": crafted({"model.more": np.zeros(1, np.float32)}),
    "superfluous-other": crafted({"other": np.zeros(1, np.float32)}),
    "superfluous-layer": crafted({"fixed.5.weight": np.zeros(1, np.int32)}),
    "superfluous-name": crafted({"\x1b[2J\n" + "n" * 5000: np.zeros(1, np.float32)}),
    "float-integers": crafted({"fixed.0.bias": TENSORS["fixed.0.bias"].astype(np.float32)}),
    "double": crafted({HEAD: TENSORS[HEAD].astype(np.float64)}),
    "short": crafted({"fixed.0.bias": TENSORS["fixed.0.bias"].astype(np.int16)}),
    "scalar": crafted({HEAD: np.array(0, np.float32)}),
    "no-elements": crafted({STEP: np.zeros((1, 9, 0), np.float32)}),
    "no-deviations": crafted({DEVIATION: np.zeros(0, np.float32)}),
    "shape": crafted({HEAD: TENSORS[HEAD].reshape(2, 96)}),
    "fixed-shape": crafted({"fixed.2.weight": TENSORS["fixed.2.weight"][:-1]}),
    "fixed-huge": crafted(filled("fixed.1.weight", -(1 << 31))),
    "tables-scalar": crafted({"tables.y.low": np.array(0, np.int32)}),
    "tables-empty": crafted({f"tables.y.{p}": np.zeros(0, np.int32) for p in ("low", "size")}),
    "tables-no-counts": crafted({"tables.y.counts": np.zeros(0, np.int32)}),
    "tables-negative": crafted(one_value("tables.y.counts", -1)),
    "tables-sum": crafted(one_value("tables.z.counts", 65536)),
    "tables-long": crafted(one_value("tables.y.size", 1 << 30)),
    "tables-size-zero": crafted(one_value("tables.y.size", 0)),
    "tables-far": crafted(one_value("tables.y.low", -(1 << 31))),
    "tables-few": crafted(
        {
            "tables.y.low": TENSORS["tables.y.low"][:1],
            "tables.y.size": TENSORS["tables.y.size"][:1],
            "tables.y.counts": COUNTS[: TENSORS["tables.y.size"][0] + 1],
        }
    ),
}
"""Weights files that nobody should load."""


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_weights_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(WeightsError) as caught:
        build(load_weights(path))
    text = str(caught.value).removeprefix(f"{path}: ")
    assert text.isprintable() and len(text) < 300


UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]) * 1024,) * 2)
from vrcodec.errors import WeightsError
from vrcodec.model.weights_file import load_weights
from vrcodec.model.loading import build
for path in map(Path, sys.argv[2:]):
    try:
        build(load_weights(path))
    except WeightsError:
        print(path.name)
"""


@linux_only
def test_refusals_need_little_memory(
    tmp_path: Path, vrcodec_environment: dict[str, str], run_vrcodec: RunVrcodec
) -> None:
    """All of them in one process; and two through the command line, where a shell limits it."""
    for name, data in HOSTILE.items():
        (tmp_path / name).write_bytes(data)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    every = [*sorted(HOSTILE), "sparse"]
    done = subprocess.run(
        [sys.executable, "-c", UNDER_A_LIMIT, str(MEMORY), *every],
        cwd=tmp_path,
        env=vrcodec_environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.split() == every, done.stderr
    for name in ("everything-wide", "sparse"):
        shell = f'ulimit -v {MEMORY}; exec "$0" -m vrcodec info --model --weights {name}'
        result = subprocess.run(
            ["sh", "-c", shell, sys.executable],
            cwd=tmp_path,
            env=vrcodec_environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (result.returncode, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"Error: {name}: ")


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "circle").symlink_to("circle")
    kinds = ["folder", "dangling", "circle", "missing"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "device").symlink_to("/dev/zero")
        kinds += ["pipe", "device"]
    for kind in kinds:
        with pytest.raises(WeightsError, match=f"{kind}: not a weights file: "):
            load_weights(tmp_path / kind)


def test_a_link_to_weights_is_followed(tmp_path: Path, tiny_weights: Path) -> None:
    (tmp_path / "link").symlink_to(tiny_weights)
    assert load_weights(tmp_path / "link").id == load_weights(tiny_weights).id


FLOATS = sorted(name for name, tensor in TENSORS.items() if tensor.dtype != np.int32)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """Weights that are damaged, or true to form and full of extreme values."""
    kind = draw(st.sampled_from(["bytes", "values", "values", "integers", "config"]))
    if kind == "bytes":
        data = bytearray(TINY)
        for _ in range(draw(st.integers(1, 4))):
            place = draw(st.integers(0, 16_000) | st.integers(0, len(data) - 1))
            data[place] = draw(st.integers(0, 255))
        return bytes(data[: draw(st.just(len(data)) | st.integers(0, len(data)))])
    changes: dict[str, NDArray | None] = {}
    if kind == "config":
        name = draw(st.sampled_from(sorted(json.loads(CONFIG))))
        values = st.integers() | st.floats() | st.booleans() | st.lists(st.integers(0, 9))
        return config(**{name: draw(values)})
    names = FLOATS if kind == "values" else sorted(set(TENSORS) - set(FLOATS))
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=8)):
        tensor = TENSORS[name]
        if tensor.dtype == np.int32:
            value = draw(st.integers(-(1 << 31), (1 << 31) - 1))
        else:
            largest = 65504 if tensor.dtype == np.float16 else 1e5
            value = draw(st.floats(-largest, largest) | st.sampled_from([65504.0, -65504.0, 0.0]))
        changes |= draw(st.sampled_from([filled, one_value]))(name, value)
    return crafted(changes)


@pytest.mark.slow
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(mutations())
def test_any_weights_code_or_are_refused(tmp_path: Path, data: bytes) -> None:
    """What is accepted codes a picture and decodes its own file, however absurd the numbers."""
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    picture = Image.effect_noise((20, 17), 60).convert("RGB")
    try:
        codec = Codec(path, "cpu")
        assert codec.decode(codec.encode(picture, 0.7)).size == picture.size
    except VrcodecError as error:
        assert str(error).isprintable() and len(str(error)) < 400 + len(str(path))


def test_an_embedding_far_below_zero_is_silent(tmp_path: Path) -> None:
    """Warnings are errors here; a user would see NumPy's on the standard error."""
    hidden = "model.conditioning.hidden.bias"
    assert hidden in FLOATS
    (tmp_path / "w").write_bytes(crafted(filled(hidden, -65504)))
    picture = Image.effect_noise((20, 17), 60).convert("RGB")
    codec = Codec(tmp_path / "w", "cpu")
    assert codec.decode(codec.encode(picture, 0.7)).size == picture.size


def test_extreme_numbers_do_no_harm(tmp_path: Path) -> None:
    """The largest values that are accepted, in every tensor at once: infinite on the way."""
    changes: dict[str, NDArray | None] = {}
    for name in FLOATS:
        if name == STEP:
            changes |= filled(name, 4)
        elif "deviation" in name:
            changes |= filled(name, 1e-4)
        else:
            changes |= filled(name, 65504)
    (tmp_path / "w").write_bytes(crafted(changes))
    codec = Codec(tmp_path / "w", "cpu")
    picture = Image.effect_noise((40, 33), 60).convert("RGB")
    for effort in (0, 1):
        assert codec.decode(codec.encode(picture, 0.5, effort=effort)).size == picture.size


# Names


def test_ids_have_64_bits_and_begin_as_they_did(tiny_weights: Path) -> None:
    weights = load_weights(tiny_weights)
    assert weights.id == content_id(CONFIG, TENSORS) == "8a157eee639d9956"
    for name in ("golden-photo-0.5.vrc", "golden-thin-0.8.vrc"):
        assert unpack((DATA / name).read_bytes()).header.weights_id == weights.id[:6]


def test_other_weights_have_another_name() -> None:
    whole = content_id(CONFIG, TENSORS)
    assert content_id(CONFIG + " ", TENSORS) != whole
    for name, tensor in TENSORS.items():
        changed = tensor.copy()
        changed.view(np.uint8).flat[0] ^= 1
        assert content_id(CONFIG, TENSORS | {name: changed}) != whole
        assert content_id(CONFIG, TENSORS | {name: tensor[..., None]}) != whole


OWN, TWIN, OTHER = "8a157e" + "0" * 10, "8a157e" + "f" * 10, "39d497" + "0" * 10


@pytest.mark.parametrize(
    ("named", "own", "released", "message"),
    [
        (OWN, OWN, OTHER, None),
        (OWN, OWN, TWIN, None),
        (OWN[:6], OWN, OTHER, None),
        (OWN[:6], OWN, OWN, None),
        (OWN[:6], OWN, "", None),
        (OTHER, OWN, OTHER, "made with weights 39d4970+, these are 8a157e0+"),
        (OTHER[:6], OWN, OTHER, "made with weights 39d497, these are 8a157e$"),
        (TWIN, OWN, OWN, "made with weights 8a157ef+, these are 8a157e0+"),
        (OWN[:6], TWIN, OWN, "made with weights 8a157e, which is short for .*f{10} and for .*0"),
    ],
)
def test_files_name_their_weights(
    named: str, own: str, released: str, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_file, "_released_id", lambda: released)
    if message is None:
        check_named(named, own)
    else:
        with pytest.raises(UnknownWeightsError, match=message):
            check_named(named, own)


def test_forged_weights_pass_for_no_others(
    tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """55 million tries made these, of another bias and white space, begin as the tiny ones do."""
    tail = "\n \n\t\n\r\r\r \r \t\r }"
    forged = crafted({HEAD: TENSORS[HEAD] + np.float32(0.25)}, CONFIG[:-1] + tail)
    (tmp_path / "forged").write_bytes(forged)
    codec = Codec(tmp_path / "forged", "cpu")
    assert codec.weights_id == "8a157ed8b425ae08"
    with pytest.raises(UnknownWeightsError, match="8a157eee639d9956, these are 8a157ed8b425ae08"):
        codec.decode((DATA / "golden-v2-photo-0.5.vrc").read_bytes())
    monkeypatch.setattr(weights_file, "default_weights", lambda: tiny_weights)
    weights_file._released_id.cache_clear()
    try:
        with pytest.raises(UnknownWeightsError, match="8a157e, which is short for 8a157ed8"):
            codec.decode((DATA / "golden-photo-0.5.vrc").read_bytes())
        Codec(tiny_weights, "cpu").decode((DATA / "golden-photo-0.5.vrc").read_bytes())
    finally:
        weights_file._released_id.cache_clear()


# Writing


def test_saved_weights_load_again(tmp_path: Path, tiny_weights: Path) -> None:
    old = load_weights(tiny_weights)
    name = save_weights(tmp_path / "w", old.config, old.tensors)
    new = load_weights(tmp_path / "w")
    assert new.id == name != old.id  # its dials have names now
    assert new.config == old.config == ModelConfig.from_json(old.config.to_json())
    for key, tensor in old.tensors.items():
        np.testing.assert_array_equal(new.tensors[key], tensor)


@linux_only
def test_a_full_disk_leaves_the_weights_that_were_there(tmp_path: Path, tiny_weights: Path) -> None:
    import resource
    import signal

    shutil.copy(tiny_weights, tmp_path / "w")
    old = load_weights(tiny_weights)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(VrcodecError, match="w: "):
            save_weights(tmp_path / "w", old.config, old.tensors)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["w"]
    assert (tmp_path / "w").read_bytes() == TINY
    assert dataclasses.asdict(load_weights(tmp_path / "w"))["id"] == old.id


def test_naming_weights_costs_no_more_than_reading_them(tmp_path: Path) -> None:
    """Each of thousands of tensors that are all of the file: the id would hash it as often."""
    entry = {"dtype": "U8", "shape": [1 << 20], "data_offsets": [0, 1 << 20]}
    header = json.dumps({f"model.{i}": entry for i in range(20_000)}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(1 << 20))
    with pytest.raises(WeightsError, match="its tensors overlap"):
        identify(path)
