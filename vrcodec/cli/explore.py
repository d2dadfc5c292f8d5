"""`vrcodec explore`."""

from __future__ import annotations

from pathlib import Path

import click

from vrcodec import extras
from vrcodec.cli import common
from vrcodec.errors import naming
from vrcodec.files import read_bytes

PACKAGES = ("starlette", "uvicorn")


@click.command()
@click.argument("images", metavar="[IMG]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=0,
    help="Listen on this port (default: any that is free).",
)
@click.option("--no-browser", is_flag=True, help="Only print the page's address.")
@common.device_option
@common.weights_option
@click.option(
    "--max-pixels",
    metavar="N",
    type=click.IntRange(1, 1 << 60),
    help="Refuse pictures with more pixels than this (default: 16 million).",
)
def explore(
    images: tuple[Path, ...],
    port: int,
    no_browser: bool,
    device: str,
    weights: Path | None,
    max_pixels: int | None,
) -> None:
    """Open a page on this machine with the model's dials as sliders.

    IMG are pictures or .vrc files to begin with; others can be dropped on the page. Nobody else
    can reach it, and nothing leaves this machine. Ctrl-C ends it.
    """
    extras.require(*PACKAGES)
    from vrcodec.codec.codec import Codec
    from vrcodec.explore.run import listen, serve
    from vrcodec.explore.server import MAX_PIXELS, Desk
    from vrcodec.explore.shelf import MAX_PICTURES

    desk = Desk(Codec(weights, device, max_pixels or MAX_PIXELS))
    closed: list[str] = []
    for path in images:
        with naming(str(path)):
            place, gone = desk.add(read_bytes(path), path.name)
        desk.first.append(place)
        closed += [picture.name for picture in gone.values()]
    if closed:
        common.say_line(
            f"closed to make room: {', '.join(closed)} (at most {MAX_PICTURES} pictures with "
            f"{desk.held_pixels:,} pixels together are open)",
            err=True,
        )
    with listen(port) as listener:
        serve(desk, listener, lambda at: common.say(f"{at}\nCtrl-C ends it."), not no_browser)
