"""Targets of size and fidelity: kept to, in few encodes, or refused."""

from __future__ import annotations

import collections
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import RunVrcodec
from PIL import Image

from vrcodec.bitstream.extras import profiles
from vrcodec.codec.codec import Codec
from vrcodec.codec.settings import Encoded, EncodeSettings, Measure, Target
from vrcodec.codec.stages import ANALYSIS, listening
from vrcodec.codec.targets import MAX_ENCODES, largest_within
from vrcodec.conditional.dials import ONE
from vrcodec.errors import TargetError, VrcodecError
from vrcodec.pictures import CodedPicture, to_coded
from vrcodec.pictures.metrics import ms_ssim, psnr, ssimulacra2

NEEDED = {Measure.MS_SSIM: "pytorch_msssim", Measure.SSIMULACRA2: "ssimulacra2"}  # the eval extra


@pytest.fixture(scope="module")
def codec(tiny_weights: Path) -> Codec:
    return Codec(tiny_weights, "cpu")


@pytest.fixture(scope="module")
def samples(pictures: Path) -> dict[str, CodedPicture]:
    """Photographs, and pictures on which rate and fidelity behave oddly."""
    random = np.random.default_rng(5)
    made = {
        "macaw": Image.open(pictures / "macaw.png"),
        "hibiscus": Image.open(pictures / "hibiscus.png"),
        "noise": Image.fromarray(random.integers(0, 256, (180, 200, 3), np.uint8)),
        "flat": Image.new("RGB", (300, 200), (200, 30, 90)),
        "grey": Image.open(pictures / "lighthouse.png").convert("L"),
    }
    cut = Image.open(pictures / "macaw.png").convert("RGBA")
    cut.putalpha(Image.fromarray(random.integers(0, 256, (cut.height, cut.width), np.uint8)))
    made["alpha"] = cut
    return {name: to_coded(picture) for name, picture in made.items()}


def pixels(data: bytes, codec: Codec) -> np.ndarray:
    return np.asarray(codec.decode(data).convert("RGB"))


def at_quality(codec: Codec, picture: CodedPicture, quality: float) -> bytes:
    (made,) = codec.encode_pictures([picture], EncodeSettings.of(quality))
    return made.data


def to_target(
    codec: Codec,
    picture: CodedPicture,
    measure: Measure,
    value: float,
    best_effort: bool = False,
) -> tuple[Encoded, int]:
    """The result, and how often the picture was encoded for it."""
    encodes = collections.Counter[str]()
    settings = EncodeSettings(target=Target(measure, value), best_effort=best_effort)
    with listening(lambda name, _: encodes.update([name])):
        (made,) = codec.encode_pictures([picture], settings)
    return made, encodes[ANALYSIS]


# The search alone


@pytest.mark.parametrize("bend", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("where", [0.02, 0.4, 0.97])
def test_search_finds_any_smooth_curve(bend: float, where: float) -> None:
    calls = []

    def curve(position: int) -> float:
        calls.append(position)
        return 3 + 4 * (position / ONE) ** bend

    limit = 3 + 4 * where**bend
    found = largest_within(curve, limit, limit - 0.005, 16384, 3.0)
    assert found in calls
    assert limit - 0.03 < curve(found) <= limit
    assert len(calls) - 1 <= MAX_ENCODES


def test_search_survives_steps_and_bumps() -> None:
    for name, curve in {
        "step": lambda position: 1.0 if position < 9999 else 9.0,
        "bumps": lambda position: position / 5000 + math.sin(position / 300),
        "flat": lambda position: 1.0,
        "falling": lambda position: -position / 5000,
    }.items():
        seen: dict[int, float] = {}

        def measure(
            position: int,
            curve: Callable[[int], float] = curve,
            seen: dict[int, float] = seen,
        ) -> float:
            assert position not in seen
            seen[position] = curve(position)
            return seen[position]

        found = largest_within(measure, 2.0, 1.99, 30000, 3.3)
        assert found is not None, name
        assert seen[found] <= 2.0, name
        assert found == max(position for position, value in seen.items() if value <= 2.0), name
        assert len(seen) <= MAX_ENCODES, name


def test_search_says_when_nothing_fits() -> None:
    seen = []

    def measure(position: int) -> float:
        seen.append(position)
        return 5.0

    assert largest_within(measure, 2.0, 1.99, 30000, 3.3) is None
    assert seen[-1] == 0


# Pictures


def test_metadata_count_as_they_are_stored(codec: Codec, pictures: Path) -> None:
    """A packet of 50 kB may take one, and a profile that everybody has one byte."""
    image = Image.open(pictures / "macaw.png").convert("RGB")
    rule = b'<rdf:li xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">step</rdf:li>'
    image.info["xmp"] = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + 600 * rule + b"</x:xmpmeta>"
    image.info["icc_profile"] = profiles()[0]
    for quality in (0.3, 0.8):
        limit = round(1.01 * len(codec.encode(image, quality)))
        data = codec.encode(image, target=Target(Measure.SIZE, limit))
        assert 0.97 * limit <= len(data) <= limit


@pytest.mark.slow
@pytest.mark.parametrize("name", ["macaw", "hibiscus", "noise", "flat", "grey", "alpha"])
def test_sizes_are_never_exceeded(
    name: str, codec: Codec, samples: dict[str, CodedPicture]
) -> None:
    picture = samples[name]
    ends = [len(at_quality(codec, picture, quality)) for quality in (0, 1)]
    encodes = []
    for limit in np.geomspace(ends[0], ends[1] * 1.2, 7).round().astype(int).tolist():
        result, count = to_target(codec, picture, Measure.SIZE, limit)
        quality = result.conditioning.quality
        assert len(result.data) == result.achieved <= limit
        assert quality == 1 or limit < 4096 or len(result.data) >= 0.97 * limit
        assert at_quality(codec, picture, quality) == result.data
        assert result.reached
        encodes.append(count)
    assert max(encodes) <= MAX_ENCODES
    assert sum(encodes) / len(encodes) <= 6
    with pytest.raises(TargetError, match=r"quality 0 gives [\d,]+ bytes"):
        to_target(codec, picture, Measure.SIZE, ends[0] - 1)
    nearest, _ = to_target(codec, picture, Measure.SIZE, 10, best_effort=True)
    assert (len(nearest.data), nearest.reached) == (ends[0], False)
    assert nearest.conditioning == codec.dials.at(0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["macaw", "hibiscus", "noise", "grey", "alpha"])
def test_psnr_is_reached_and_not_much_more(
    name: str, codec: Codec, samples: dict[str, CodedPicture]
) -> None:
    picture = samples[name]
    low, high = (
        psnr(picture.pixels, pixels(at_quality(codec, picture, quality), codec))
        for quality in (0, 1)
    )
    for wanted in np.linspace(low + 0.01, high - 0.01, 5):
        result, count = to_target(codec, picture, Measure.PSNR, float(wanted))
        reached = psnr(picture.pixels, pixels(result.data, codec))
        assert reached == result.achieved
        assert wanted <= reached <= wanted + 0.25
        assert count <= MAX_ENCODES
    with pytest.raises(TargetError, match="quality 1 gives"):
        to_target(codec, picture, Measure.PSNR, high + 0.1)
    nearest, _ = to_target(codec, picture, Measure.PSNR, 99, best_effort=True)
    assert (nearest.conditioning.quality, nearest.reached) == (1, False)


@pytest.mark.parametrize("wanted", [0.9, 0.98, 0.995])
def test_ms_ssim_is_reached_and_not_much_more(
    wanted: float, codec: Codec, samples: dict[str, CodedPicture]
) -> None:
    pytest.importorskip(NEEDED[Measure.MS_SSIM])
    picture = samples["macaw"]
    result, _ = to_target(codec, picture, Measure.MS_SSIM, wanted)
    reached = ms_ssim(picture.pixels, pixels(result.data, codec))
    assert reached is not None
    excess = -10 * math.log10((1 - reached) / (1 - wanted))
    assert 0 <= excess <= 0.25
    with pytest.raises(TargetError, match="more than 160 pixels"):
        to_target(codec, samples["hibiscus"], Measure.MS_SSIM, wanted)


@pytest.mark.parametrize(("measure", "module"), NEEDED.items())
def test_a_target_says_which_package_it_needs(
    measure: Measure,
    module: str,
    codec: Codec,
    samples: dict[str, CodedPicture],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    expected = f"{module} is not installed: pip install 'vrcodec[eval]'"
    with pytest.raises(VrcodecError, match=re.escape(expected)):
        to_target(codec, samples["macaw"], measure, 0.9)


def test_ssimulacra2_is_reached_and_not_much_more(
    codec: Codec, samples: dict[str, CodedPicture]
) -> None:
    pytest.importorskip(NEEDED[Measure.SSIMULACRA2])
    picture = samples["macaw"]
    result, count = to_target(codec, picture, Measure.SSIMULACRA2, 60)
    reached = ssimulacra2(picture.pixels, pixels(result.data, codec))
    assert reached is not None and reached == result.achieved
    assert 60 <= reached <= 62
    assert count <= MAX_ENCODES


@pytest.mark.parametrize("value", [1e308, 10**320])
@pytest.mark.parametrize("measure", [Measure.BPP, Measure.SIZE])
def test_any_size_holds_a_file(
    value: float, measure: Measure, codec: Codec, samples: dict[str, CodedPicture]
) -> None:
    result, _ = to_target(codec, samples["hibiscus"], measure, value)
    assert (result.conditioning.quality, result.reached) == (1, True)


@pytest.mark.parametrize(
    ("measure", "value", "tune"),
    [
        (Measure.PSNR, 27.0, 0.0),
        (Measure.MS_SSIM, 0.9, 1.0),
        (Measure.SSIMULACRA2, 10.0, 1.0),
        (Measure.BPP, 1.0, 0.25),
        (Measure.SIZE, 5000, 0.25),
    ],
)
def test_a_fidelity_says_what_quality_means(
    measure: Measure, value: float, tune: float, weights_of_two_dials: Path, pictures: Path
) -> None:
    """A second dial is where files that reach it are smallest, if nothing else is said of it."""
    if measure in NEEDED:
        pytest.importorskip(NEEDED[measure])
    codec = Codec(weights_of_two_dials, "cpu")
    picture = to_coded(Image.open(pictures / "macaw.png").resize((192, 192)))
    target = Target(measure, value)
    for dials, there in (({}, tune), ({"tune": 0.75}, 0.75)):
        settings = EncodeSettings.of(dials=dials, target=target, best_effort=True)
        (made,) = codec.encode_pictures([picture], settings)
        assert codec.dials.positions(made.conditioning)["tune"] == there


def test_what_is_out_of_reach_at_an_end_is_looked_for_at_the_default(pictures: Path) -> None:
    """The released weights reach less at the perceptual end than at the default."""
    pytest.importorskip(NEEDED[Measure.MS_SSIM])
    codec = Codec(device="cpu")
    picture = to_coded(Image.open(pictures / "macaw.png").convert("RGB"))
    default = codec.dials.positions(codec.dials.conditioning())["tune"]
    similarity = {}
    for tune in (1.0, default):
        (made,) = codec.encode_pictures([picture], EncodeSettings.of(1.0, {"tune": tune}))
        similarity[tune] = ms_ssim(picture.pixels, pixels(made.data, codec)) or 0.0
    assert similarity[1.0] < similarity[default]
    between = (similarity[1.0] + 3 * similarity[default]) / 4
    settings = EncodeSettings(target=Target(Measure.MS_SSIM, between))
    (made,) = codec.encode_pictures([picture], settings)
    assert codec.dials.positions(made.conditioning)["tune"] == default
    assert made.reached and made.achieved is not None and made.achieved >= between


def test_psnr_in_strips_is_psnr(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    a, b = random.integers(0, 256, (2, 37, 11, 3), np.uint8)
    expected = 10 * math.log10(255**2 / np.mean((a.astype(float) - b) ** 2))
    assert psnr(a, b) == pytest.approx(expected)
    monkeypatch.setattr("vrcodec.pictures.metrics._STRIP_SAMPLES", 100)
    assert psnr(a, b) == pytest.approx(expected)
    assert psnr(a, a) == 100


# The command line


def encode(
    run_vrcodec: RunVrcodec, weights: Path, picture: Path, target: Path, *options: str
) -> subprocess.CompletedProcess[bytes]:
    return run_vrcodec("encode", picture, "-o", target, "--weights", weights, "--json", *options)


@pytest.mark.parametrize(
    ("option", "value", "limit"),
    [
        ("--target-size", "5.5 KiB", 5632),
        ("--target-bpp", "1.2", 7372),
    ],
)
def test_rate_targets_from_the_command_line(
    option: str,
    value: str,
    limit: int,
    run_vrcodec: RunVrcodec,
    tiny_weights: Path,
    pictures: Path,
    tmp_path: Path,
) -> None:
    target = tmp_path / "x.vrc"
    result = encode(run_vrcodec, tiny_weights, pictures / "macaw.png", target, option, value)
    assert (result.returncode, result.stderr) == (0, b"")
    size = target.stat().st_size
    assert 0.97 * limit <= size <= limit
    facts = json.loads(result.stdout)
    assert facts["bytes"] == size and 0 < facts["quality"] < 1


def test_fidelity_targets_from_the_command_line(
    run_vrcodec: RunVrcodec, tiny_weights: Path, pictures: Path, tmp_path: Path
) -> None:
    picture, target = pictures / "macaw.png", tmp_path / "x.vrc"
    result = encode(run_vrcodec, tiny_weights, picture, target, "--target-psnr", "34")
    assert (result.returncode, result.stderr) == (0, b"")
    back = tmp_path / "x.png"
    run_vrcodec("decode", target, "-o", back, "--weights", tiny_weights)
    source = np.asarray(Image.open(picture).convert("RGB"))
    assert 34 <= psnr(source, np.asarray(Image.open(back))) <= 34.25


def test_out_of_reach_from_the_command_line(
    run_vrcodec: RunVrcodec, tiny_weights: Path, pictures: Path, tmp_path: Path
) -> None:
    picture, target = pictures / "macaw.png", tmp_path / "x.vrc"
    result = encode(run_vrcodec, tiny_weights, picture, target, "--target-size", "50")
    assert result.returncode == 1
    assert json.loads(result.stdout)["status"] == "failed"
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith(f"Error: {picture}: 50 bytes cannot be reached: quality 0 gives")
    assert not target.exists()
    options = ("--target-size", "50", "--best-effort")
    result = encode(run_vrcodec, tiny_weights, picture, target, *options)
    assert result.returncode == 0
    row = json.loads(result.stdout)
    assert (row["quality"], row["notes"]) == (0, ["50 bytes is out of reach"])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--target-size", "6kB", "-q", "0.5"], "exclude each other"),
        (["--target-size", "6kB", "--target-psnr", "30"], "exclude each other"),
        (["--target-size", "6q"], "'6q' is not a size"),
        (["--target-size", "0"], "'0' is not a size"),
        (["--target-size", "-5"], "'-5' is not a size"),
        (["--target-bpp", "inf"], "'inf' is not between 0 and 1e+06"),
        (["--target-bpp", "nan"], "nan"),
        (["--target-psnr", "0"], "'0' is not between 0 and 1000"),
        (["--target-ms-ssim", "1"], "'1' is not between 0 and 1"),
        (["--best-effort"], "about a target"),
    ],
    ids=" ".join,
)
def test_bad_targets_are_exit_2(
    options: list[str], text: str, run_vrcodec: RunVrcodec, pictures: Path, tmp_path: Path
) -> None:
    result = run_vrcodec("encode", pictures / "macaw.png", "-o", tmp_path / "x.vrc", *options)
    assert result.returncode == 2
    assert text in result.stderr.decode().splitlines()[-1]
    assert not list(tmp_path.iterdir())
