"""Presets: aims whose qualities follow from one measured table beside the weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from conftest import RunVrcodec
from PIL import Image
from test_installation import WITHOUT_EXTRAS

import vrcodec
from vrcodec.codec.presets import (
    PRESETS,
    measured_qualities,
    preset_quality,
    read_qualities,
    table_of,
)
from vrcodec.errors import WeightsError
from vrcodec.model.identity import default_weights, identify
from vrcodec.model.weights_file import load_weights

LOOKS = [
    {"quality": 0.0, "bpp": 0.1, "psnr": 26.0, "ssimulacra2": -20.0},
    {"quality": 0.4, "bpp": 0.5, "psnr": 32.0, "ssimulacra2": 40.0},
    {"quality": 0.6, "bpp": 1.0, "psnr": 36.0, "ssimulacra2": 70.0},
    {"quality": 1.0, "bpp": 3.0, "psnr": 44.0, "ssimulacra2": 88.0},
]


@pytest.fixture
def weights(tmp_path: Path, tiny_weights: Path) -> Path:
    """Weights with a table beside them."""
    path = tmp_path / "mine.safetensors"
    shutil.copy(tiny_weights, path)
    write(path, LOOKS)
    return path


def write(weights: Path, looks: object, name: str | None = None) -> None:
    table = {"weights": name or identify(weights)[0], "pictures": "some", "looks": looks}
    table_of(weights).write_text(json.dumps(table))


def test_a_preset_is_where_its_aim_is_met(weights: Path) -> None:
    found = measured_qualities(weights)
    assert [found.preset(name).quality for name in PRESETS] == [0.33, 0.53, 0.82, 1.0]
    assert preset_quality("web", weights) == 0.53
    look = found.at(0.5)
    assert (look.bpp, look.psnr, look.ssimulacra2) == (0.75, 34.0, 55.0)
    for quality, known in ((0, LOOKS[0]), (0.6, LOOKS[2]), (1, LOOKS[3])):
        assert found.at(quality).psnr == known["psnr"]


@pytest.mark.parametrize(
    "looks",
    [
        [],
        LOOKS[:1],
        LOOKS[::-1],
        [LOOKS[1], LOOKS[1]],
        [LOOKS[0], LOOKS[1] | {"ssimulacra2": float("nan")}],
        [LOOKS[0], LOOKS[1] | {"quality": 2}],
        [LOOKS[0], {"quality": 1}],
        [LOOKS[0], LOOKS[1] | {"bpp": "much"}],
        {"a": 1},
        None,
    ],
)
def test_tables_that_say_nothing_are_refused(looks: object, weights: Path) -> None:
    write(weights, looks)
    with pytest.raises(WeightsError, match="no table of measured qualities"):
        measured_qualities(weights)


def test_a_table_is_for_its_own_weights(weights: Path) -> None:
    write(weights, LOOKS, "f" * 16)
    with pytest.raises(WeightsError, match=r"measured with weights f{16}, these are 8a157e"):
        preset_quality("photo", weights)
    table_of(weights).unlink()
    with pytest.raises(WeightsError, match="nobody has measured"):
        preset_quality("photo", weights)


def test_released_weights_have_a_table_that_tells_presets_apart() -> None:
    found = measured_qualities()
    qualities = [found.preset(name).quality for name in PRESETS]
    assert qualities == sorted(set(qualities)) and qualities[0] > 0
    for name, aim in list(PRESETS.items())[:-1]:
        assert found.preset(name).ssimulacra2 == pytest.approx(aim, abs=1.5)


def test_weights_are_identified_without_reading_their_numbers(tiny_weights: Path) -> None:
    for path in (tiny_weights, default_weights()):
        whole = load_weights(path)
        assert identify(path) == (whole.id, whole.config)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 20,
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{}",
        (7).to_bytes(8, "little") + b'{"a":1}',
        (1 << 20).to_bytes(8, "little") + b"[" * (1 << 20),
        (9).to_bytes(8, "little") + b'{"a":{}} ',
        (60).to_bytes(8, "little")
        + b'{"__metadata__":7,"a":{"dtype":"F16","shape":[1]}}'
        + b" " * 10,
    ],
)
def test_what_is_no_weights_file_has_no_identity(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(WeightsError, match=r"x: not a weights file"):
        identify(tmp_path / "x")


def test_presets_from_python(weights: Path, tmp_path: Path, pictures: Path) -> None:
    with Image.open(pictures / "hibiscus.png") as image:
        wanted = vrcodec.encode(image, 0.53, weights=weights)
        assert vrcodec.encode(image, preset="web", weights=weights) == wanted
        image.save(tmp_path / "a.vrc", preset="web", weights=weights)
        assert (tmp_path / "a.vrc").read_bytes() == wanted
        for options, text in (
            ({"preset": "huge"}, "preset 'huge' is not one of thumbnail, web, photo, archive"),
            ({"preset": "web", "quality": 0.5}, "a quality and a preset exclude each other"),
            ({"preset": "web", "target": vrcodec.Target(vrcodec.Measure.PSNR, 30)}, "exclude each"),
        ):
            for encode in (vrcodec.encode, partial(Image.Image.save, fp=BytesIO(), format="VRC")):
                with pytest.raises(ValueError, match=text):
                    encode(image, **options, weights=weights)


# The command line


def test_presets_from_the_command_line(
    weights: Path, tmp_path: Path, pictures: Path, run_vrcodec: RunVrcodec
) -> None:
    shutil.copy(pictures / "hibiscus.png", tmp_path / "a.png")
    options = ("--weights", weights, "--device", "cpu")
    for options_of_it, name in ((("--preset", "web"), "b.vrc"), (("-q", "0.53"), "c.vrc")):
        result = run_vrcodec("encode", "a.png", name, *options_of_it, *options, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "b.vrc").read_bytes() == (tmp_path / "c.vrc").read_bytes()

    for more in (["-q", "0.3"], ["--target-size", "1K"], ["--target-total", "1K"]):
        result = run_vrcodec("encode", "a.png", "--preset", "web", *more, *options, cwd=tmp_path)
        assert result.returncode == 2 and b"exclude each other" in result.stderr
    table_of(weights).unlink()
    result = run_vrcodec("encode", "a.png", "--preset", "web", *options, cwd=tmp_path)
    assert (result.returncode, result.stderr.count(b"\n")) == (1, 1)
    assert b"mine.qualities.json: not there" in result.stderr


def test_help_says_what_qualities_look_like(
    run_vrcodec: RunVrcodec, vrcodec_environment: dict[str, str]
) -> None:
    wide = vrcodec_environment | {"COLUMNS": "100"}
    text = run_vrcodec("encode", "--help", env=wide).stdout.decode()
    found = measured_qualities()
    for name, look in (("0.3", found.at(0.3)), ("photo", found.preset("photo"))):
        (line,) = (line for line in text.splitlines() if line.startswith(f"  {name} "))
        assert f"{look.psnr:.1f} dB, SSIMULACRA2 {look.ssimulacra2:.0f}, {look.bpp:.2f} bpp" in line


def test_ssimulacra2_as_a_target_from_the_command_line(
    tmp_path: Path, pictures: Path, run_vrcodec: RunVrcodec, tiny_weights: Path
) -> None:
    pytest.importorskip("ssimulacra2")
    shutil.copy(pictures / "macaw.png", tmp_path / "a.png")
    command = (
        "encode",
        "a.png",
        "--weights",
        tiny_weights,
        "--device",
        "cpu",
        "--target-ssimulacra2",
    )
    result = run_vrcodec(*command, "60", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert b", quality 0." in result.stdout
    for value in ("0", "100", "nan", "high"):
        assert run_vrcodec(*command, value, cwd=tmp_path).returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "package"),
    [("--target-ssimulacra2=70", "ssimulacra2"), ("--target-ms-ssim=0.9", "pytorch_msssim")],
)
def test_targets_that_need_a_package_say_so_once_and_at_once(
    target: str, package: str, tmp_path: Path, vrcodec_environment: dict[str, str]
) -> None:
    """Before the pictures, which are not even there."""
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, "encode", "a.png", "b.png", target],
        env=vrcodec_environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    line = f"Error: {package} is not installed: pip install 'vrcodec[eval]'\n"
    assert (result.returncode, result.stderr) == (1, line)


@pytest.mark.slow
def test_the_script_writes_what_presets_read(
    tmp_path: Path, pictures: Path, tiny_weights: Path, vrcodec_environment: dict[str, str]
) -> None:
    pytest.importorskip("ssimulacra2")
    script = Path(__file__).parents[1] / "scripts" / "measure_qualities.py"
    (tmp_path / "in").mkdir()
    shutil.copy(pictures / "macaw.png", tmp_path / "in")
    save, page = tmp_path / "table.json", tmp_path / "page.md"
    page.write_text(
        "before\n<!-- table of scripts/measure_qualities.py -->\nold\n<!-- end of the table -->\n"
    )
    command = [script, tmp_path / "in", "--weights", tiny_weights, "--qualities", "0.2,0.9"]
    result = subprocess.run(
        [sys.executable, *map(str, command), "--name", "one", "--save", save, "--write", page],
        env=vrcodec_environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    found = read_qualities(save)
    assert found.weights == identify(tiny_weights)[0]
    assert found.pictures == "one: 1 pictures, 0.0 megapixels"
    assert [look.quality for look in found.looks] == [0.2, 0.9]
    text = page.read_text()
    assert text.startswith("before\n") and "old" not in text and "| photo |" in text
