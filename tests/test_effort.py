"""--effort through the real command line: fewer bits, the same decoder."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunVrcodec
from PIL import Image

from vrcodec.codec import refinement
from vrcodec.codec.codec import Codec
from vrcodec.codec.search import coded_error, error_price, perceptual_share
from vrcodec.codec.settings import EncodeSettings, Measure, Target
from vrcodec.model.linear_basis import is_colour
from vrcodec.pictures import CodedPicture, to_coded
from vrcodec.pictures.metrics import squared_error


@pytest.fixture(scope="module")
def codec(tiny_weights: Path) -> Codec:
    return Codec(tiny_weights, "cpu")


def cost(codec: Codec, picture: CodedPicture, quality: float, effort: int) -> float:
    """Bits and errors of a file, at the price the dial pays there."""
    (made,) = codec.encode_pictures([picture], EncodeSettings.of(quality, effort=effort))
    data = made.data
    decoded = np.asarray(codec.decode(data).convert("RGB"))
    price = error_price(codec.pipeline, picture, made.conditioning)
    return 8 * len(data) + price * squared_error(picture.pixels, decoded)


@pytest.mark.slow
@pytest.mark.parametrize("quality", [0.2, 0.8])
def test_more_effort_costs_less(codec: Codec, pictures: Path, quality: float) -> None:
    picture = to_coded(Image.open(pictures / "macaw.png"))
    costs = [cost(codec, picture, quality, effort) for effort in (0, 2, 5)]
    assert costs[1] < 0.995 * costs[0]
    assert costs[2] < costs[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (70, 33), (9, 90, 200)),
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (1, 37, 3), np.uint8)),
        Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 40), np.uint8)),
    ],
    ids=["flat", "line", "grey noise"],
)
@pytest.mark.parametrize("quality", [0.0, 1.0])
def test_odd_pictures_never_cost_more(codec: Codec, picture: Image.Image, quality: float) -> None:
    coded = to_coded(picture)
    assert cost(codec, coded, quality, 3) <= 1.002 * cost(codec, coded, quality, 0)
    assert codec.decode(codec.encode(picture, quality, effort=3)).mode == picture.mode


def test_nothing_is_spent_on_the_colour_of_grey_pictures(
    codec: Codec, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be thrown away, and the means of what follows it would be others."""
    seen, bits = [], refinement.PlainSymbols.bits

    def watched(self: refinement.PlainSymbols, symbols: torch.Tensor) -> torch.Tensor:
        seen.append(symbols[:, is_colour()])
        return bits(self, symbols)

    monkeypatch.setattr(refinement.PlainSymbols, "bits", watched)
    codec.encode(Image.open(pictures / "macaw.png").convert("L"), 1.0, effort=2)
    assert len(seen) == 1 + refinement.STEPS[2]
    assert not any(symbols.any() for symbols in seen)


@pytest.mark.slow
def test_tiles_are_refined_each_for_itself(codec: Codec, tiny_weights: Path) -> None:
    """What a tile changes no neighbour sees, so that tiles gain almost as much as the whole."""
    random = np.random.default_rng(5)
    small = Image.fromarray(random.integers(0, 256, (30, 40, 3), np.uint8))
    picture = to_coded(small.resize((640, 480), Image.Resampling.BICUBIC))
    tiled = Codec(tiny_weights, "cpu", tile=16)
    plain, whole = (cost(codec, picture, 0.5, effort) for effort in (0, 3))
    in_tiles = cost(tiled, picture, 0.5, 3)
    assert plain - in_tiles > 0.3 * (plain - whole) > 0


def test_command_line(
    run_vrcodec: RunVrcodec, tiny_weights: Path, pictures: Path, tmp_path: Path
) -> None:
    def encode(name: str, *options: str) -> bytes:
        target = tmp_path / name
        result = run_vrcodec(
            "encode", pictures / "macaw.png", "-o", target, "--weights", tiny_weights, *options
        )
        assert (result.returncode, result.stderr) == (0, b"")
        return target.read_bytes()

    plain = encode("plain.vrc")
    assert encode("zero.vrc", "--effort", "0") == plain
    refined = encode("refined.vrc", "--effort", "4")
    assert refined != plain
    assert encode("again.vrc", "--effort", "4") == refined
    result = run_vrcodec("decode", tmp_path / "refined.vrc", "--weights", tiny_weights)
    assert result.returncode == 0
    source = np.asarray(Image.open(pictures / "macaw.png").convert("RGB"))
    assert np.asarray(Image.open(tmp_path / "refined.png")).shape == source.shape


def test_effort_is_a_setting_of_a_folder(
    run_vrcodec: RunVrcodec, tiny_weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    Image.linear_gradient("L").resize((64, 48)).save(tmp_path / "in" / "a.png")
    statuses = []
    for run, effort in enumerate(("0", "3", "3")):
        report = tmp_path / f"report-{run}.csv"
        result = run_vrcodec(
            "encode",
            tmp_path / "in",
            "-o",
            tmp_path / "out",
            "--weights",
            tiny_weights,
            "--jobs",
            "1",
            "--effort",
            effort,
            "--report",
            report,
        )
        assert result.returncode == 0, result.stderr
        (row,) = csv.DictReader(report.read_text().splitlines())
        statuses.append(row["status"])
    assert statuses == ["done", "done", "finished"]


@pytest.mark.slow
@pytest.mark.parametrize("limit", [3000, 6000])
def test_sizes_are_kept_to(codec: Codec, pictures: Path, limit: int) -> None:
    picture = to_coded(Image.open(pictures / "macaw.png"))
    settings = EncodeSettings(target=Target(Measure.SIZE, limit), effort=2)
    (result,) = codec.encode_pictures([picture], settings)
    assert 0.97 * limit <= len(result.data) == result.achieved <= limit
    (again,) = codec.encode_pictures([picture], settings.at_quality(result.conditioning.quality))
    assert result.data == again.data


@pytest.mark.slow
def test_fidelity_is_reached(codec: Codec, pictures: Path) -> None:
    picture = to_coded(Image.open(pictures / "macaw.png"))
    settings = EncodeSettings(target=Target(Measure.PSNR, 34))
    (plain,) = codec.encode_pictures([picture], settings)
    (refined,) = codec.encode_pictures([picture], dataclasses.replace(settings, effort=5))
    assert refined.achieved
    assert 34 <= refined.achieved <= 34.25
    assert len(refined.data) < len(plain.data)


@pytest.mark.parametrize("effort", ["10", "-1", "fast"])
def test_other_efforts_are_exit_2(
    run_vrcodec: RunVrcodec, pictures: Path, tmp_path: Path, effort: str
) -> None:
    result = run_vrcodec(
        "encode", pictures / "macaw.png", "-o", tmp_path / "x.vrc", "--effort", effort
    )
    assert result.returncode == 2
    assert "--effort" in result.stderr.decode().splitlines()[-1]


def test_other_efforts_of_the_library(codec: Codec) -> None:
    with pytest.raises(ValueError, match="effort 10 is not one of 0 to 9"):
        codec.encode(Image.new("RGB", (16, 16)), effort=10)


@pytest.mark.slow
@pytest.mark.parametrize("tune", [0.5, 1.0])
def test_effort_is_for_the_distortion_that_the_dials_stand_for(
    weights_of_two_dials: Path, pictures: Path, tune: float
) -> None:
    codec = Codec(weights_of_two_dials, "cpu")
    without, with_effort = _costs(codec, pictures / "macaw.png", 0.6, tune, (0, 6))
    assert with_effort < 0.995 * without


@pytest.mark.slow
def test_effort_follows_local_steps(pictures: Path) -> None:
    """At high qualities nothing was gained while targets moved as if all steps were equal."""
    codec = Codec(device="cpu")
    assert codec.pipeline.weights.config.local_steps
    without, with_effort = _costs(codec, pictures / "macaw.png", 0.85, 0.5, (0, 3))
    assert with_effort < 0.99 * without


def _costs(
    codec: Codec, path: Path, quality: float, tune: float, efforts: tuple[int, ...]
) -> list[float]:
    """Bits and the price of the error, in the distortion that the dials stand for."""
    picture = to_coded(Image.open(path))
    costs = []
    for effort in efforts:
        settings = EncodeSettings.of(quality, {"tune": tune}, effort=effort)
        (made,) = codec.encode_pictures([picture], settings)
        decoded = np.asarray(codec.decode(made.data).convert("RGB"))
        share = perceptual_share(codec.dials, made.conditioning)
        price = error_price(codec.pipeline, picture, made.conditioning)
        error = coded_error(picture.pixels, decoded, share)
        costs.append(8 * len(made.data) + price * error)
    return costs


def test_a_perceptual_error_is_in_the_unit_of_the_squared_one(pictures: Path) -> None:
    """A picture that is no better for the eye than its squared error says costs about the same."""
    original = Image.open(pictures / "macaw.png").convert("RGB")
    stream = io.BytesIO()
    original.save(stream, "JPEG", quality=60)
    pixels, worse = np.asarray(original), np.asarray(Image.open(stream))
    squared, mixed, perceptual = (coded_error(pixels, worse, share) for share in (0, 0.5, 1))
    assert squared == squared_error(pixels, worse)
    assert 0.3 * squared < perceptual < 3 * squared
    assert mixed == pytest.approx((squared + perceptual) / 2, rel=1e-3)
    assert coded_error(pixels, pixels, 1) == 0


def test_the_share_of_the_perceptual_error_is_that_of_training(
    codec: Codec, weights_of_two_dials: Path
) -> None:
    assert perceptual_share(codec.dials, codec.dials.conditioning()) == 0
    dials = Codec(weights_of_two_dials, "cpu").dials
    shares = [perceptual_share(dials, dials.conditioning({"tune": x})) for x in (0, 0.5, 1)]
    assert shares == pytest.approx([0, 0.1 / 1.1, 0.5])


def test_effort_begins_where_no_effort_ends(
    weights_of_two_dials: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first state is the file of effort 0, dead zone and all, so that it never costs more."""
    for steps in ("STEPS", "PERCEPTUAL_STEPS"):
        monkeypatch.setattr(refinement, steps, (0,) * 10)
    codec = Codec(weights_of_two_dials, "cpu", runtime="torch")
    assert any(codec.pipeline.weights.config.dead_zone)
    picture = Image.open(pictures / "macaw.png")
    for quality in (0.3, 0.9):
        assert codec.encode(picture, quality, effort=3) == codec.encode(picture, quality)


def test_perceptual_errors_are_followed_for_some_steps_only(weights_of_two_dials: Path) -> None:
    """Beyond them they fall at the cost of what they stand for: efforts 6 and 9 are the same."""
    codec = Codec(weights_of_two_dials, "cpu")
    random = np.random.default_rng(2)
    small = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
    picture = small.resize((64, 48), Image.Resampling.BICUBIC)

    def files(tune: float) -> set[bytes]:
        dials = {"quality": 0.5, "tune": tune}
        return {codec.encode(picture, dials=dials, effort=effort) for effort in (6, 9)}

    assert len(files(0.5)) == 1
    assert len(files(0)) == 2
