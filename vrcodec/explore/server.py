"""What a page's server can be asked for: the routes, and what is refused of a question."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.resources
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcodec import extras
from vrcodec.codec.codec import Codec
from vrcodec.codec.settings import EncodeSettings, Measure, Target
from vrcodec.errors import ArgumentError, VrcodecError, one_line
from vrcodec.evaluation.codecs import OtherCodec
from vrcodec.evaluation.codecs.pillow import CODECS
from vrcodec.evaluation.metrics import measured_metrics
from vrcodec.explore import work
from vrcodec.explore.bits import bits_of_blocks, map_of
from vrcodec.explore.gate import Gate
from vrcodec.explore.lanes import Lane
from vrcodec.explore.shelf import (
    MAX_PICTURES,
    PREVIEW_PIXELS,
    Kept,
    Made,
    OpenPicture,
    UnknownError,
    open_picture,
)
from vrcodec.explore.styles import Styles
from vrcodec.pictures import from_coded, save_picture

MAX_PIXELS = 16_000_000
HELD = 4
"""How many pictures of the largest size may be open at once."""
MAX_UPLOAD = 64 << 20
"""Bytes of a picture's file."""
MAX_QUESTION = 1 << 14
"""Bytes of any other request."""
_COMPARED = ("avif", "jxl", "webp", "jpeg")
_ASSETS = {
    "": ("vrcodec.explore", "page/explore.html", "text/html"),
    "explore.css": ("vrcodec.explore", "page/explore.css", "text/css"),
    "explore.js": ("vrcodec.explore", "page/explore.js", "text/javascript"),
    "style.js": ("vrcodec.explore", "page/style.js", "text/javascript"),
    "common.css": ("vrcodec", "frontend/common.css", "text/css"),
    "common.js": ("vrcodec", "frontend/common.js", "text/javascript"),
}


class _TooLargeError(VrcodecError):
    """A request with more bytes than are taken."""


@dataclasses.dataclass
class Desk:
    """What the routes work with: a model, the open pictures, and two lanes.

    Attributes:
        shelf: the open pictures, a few that have no more pixels together than `held_pixels`.
        first: names of the pictures that were there from the beginning.
        seen: called when somebody has asked for the page.
    """

    codec: Codec
    shelf: Kept[OpenPicture] = dataclasses.field(init=False)
    first: list[str] = dataclasses.field(default_factory=list)
    quick: Lane = dataclasses.field(default_factory=Lane)
    patient: Lane = dataclasses.field(default_factory=Lane)
    seen: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.shelf = Kept(MAX_PICTURES, self.held_pixels, lambda picture: picture.count)
        self.styles = Styles(self.codec.device)

    @property
    def held_pixels(self) -> int:
        """How many pixels the open pictures may have together."""
        return HELD * self.codec.max_pixels

    def add(self, data: bytes, name: str) -> tuple[str, dict[str, OpenPicture]]:
        """Open a picture: where it is, and those that were closed to make room for it.

        Raises:
            VrcodecError: as `open_picture`.
        """
        return self.shelf.put(open_picture(self.codec, data, name))

    @property
    def others(self) -> dict[str, OtherCodec]:
        """The other codecs that are installed, by name."""
        found: dict[str, OtherCodec] = {}
        for name in _COMPARED:
            try:
                CODECS[name].check()
            except VrcodecError:
                continue
            found[name] = CODECS[name]
        return found

    def model(self) -> dict[str, Any]:
        """What a page has to know before anything else."""
        codec, metrics = self.codec, measured_metrics()
        return {
            "dials": [{"name": dial.name, "default": dial.default} for dial in codec.dials],
            "weights": codec.weights_id,
            "runtime": codec.runtime,
            "max_pixels": codec.max_pixels,
            "max_bytes": MAX_UPLOAD,
            "preview_pixels": PREVIEW_PIXELS,
            "efforts": list(work.EFFORTS) if extras.is_there("torch") else [0],
            "metrics": [
                {"name": metric.name, "title": metric.title, "places": metric.places}
                | {"unit": metric.unit if metric.name == "psnr" else ""}
                for metric in metrics
            ],
            "targets": [
                measure.value
                for measure in Measure
                if measure.is_rate or measure.value.replace("-", "_") in {m.name for m in metrics}
            ],
            "styles": self.styles.are_there,
            "codecs": {name: codec.title for name, codec in self.others.items()},
            "pictures": [name for name in self.first if name in self.shelf],
        }


def make_app(desk: Desk, token: str, port: int) -> Any:
    """The ASGI application for a port on this machine.

    Raises:
        VrcodecError: starlette is not installed.
    """
    extras.require("starlette")
    from starlette.applications import Starlette
    from starlette.routing import Mount, Route

    def route(path: str, answer: Callable[..., Awaitable[Any]], method: str = "GET") -> Any:
        return Route(path, _guarded(partial(answer, desk)), methods=[method])

    routes = [
        route("/model", _model),
        route("/pictures", _add, "POST"),
        route("/pictures/{picture}", _about),
        route("/pictures/{picture}/original", _original),
        route("/pictures/{picture}/preview", _preview, "POST"),
        route("/pictures/{picture}/previews/{preview}", _measured),
        route("/pictures/{picture}/code", _code, "POST"),
        route("/pictures/{picture}/compare", _compare, "POST"),
        route("/pictures/{picture}/curve", _curve, "POST"),
        route("/pictures/{picture}/made/{made}/{kind}", _made),
        route("/pictures/{picture}/styles/{style}/{kind}", _styled),
        route("/styles", _styles),
        *(route(f"/{name}", partial(_asset, name)) for name in _ASSETS),
    ]
    return Gate(Starlette(routes=[Mount(f"/{token}", routes=routes)]), token, port)


def _guarded(answer: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    """The same, with one line of JSON for everything that goes wrong."""
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse, Response

    async def guarded(request: Any) -> Any:
        try:
            return await answer(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody hears it
        except UnknownError as error:
            return JSONResponse({"error": str(error)}, 404)
        except _TooLargeError as error:
            return JSONResponse({"error": str(error)}, 413)
        except VrcodecError as error:
            return JSONResponse({"error": str(error)}, 400)
        except Exception as error:
            return JSONResponse({"error": one_line(error)}, 500)

    return guarded


async def _asset(name: str, desk: Desk, request: Any) -> Any:
    from starlette.responses import Response

    package, path, kind = _ASSETS[name]
    if not name:
        desk.seen()
    return Response(importlib.resources.files(package).joinpath(path).read_bytes(), 200, None, kind)


async def _model(desk: Desk, request: Any) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(desk.model())


async def _add(desk: Desk, request: Any) -> Any:
    from starlette.responses import JSONResponse

    data = await _body(request, MAX_UPLOAD)
    name = request.query_params.get("name", "")
    place, closed = await desk.quick.run(lambda: desk.add(data, name))
    gone = [{"id": key, "name": picture.name} for key, picture in closed.items()]
    return JSONResponse(_facts(desk, place) | {"closed": gone})


async def _about(desk: Desk, request: Any) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(_facts(desk, request.path_params["picture"]))


async def _original(desk: Desk, request: Any) -> Any:
    picture = _picture(desk, request)
    return await _shown(picture, picture.pixels)


async def _preview(desk: Desk, request: Any) -> Any:
    picture, asked = _picture(desk, request), await _question(request)
    if picture.is_large:
        raise ArgumentError("too large for a preview")
    at = _settings(asked).conditioning(desk.codec.dials)
    pixels, facts = await desk.quick.run(lambda: work.preview(desk.codec, picture, at))
    return await _shown(picture, pixels, {"X-Facts": json.dumps(facts)})


async def _measured(desk: Desk, request: Any) -> Any:
    """What takes longer to measure of a preview."""
    picture = _picture(desk, request)
    shown = picture.previews.find(request.path_params["preview"])
    return _lines(desk, partial(work.measure, picture, shown))


async def _code(desk: Desk, request: Any) -> Any:
    picture, asked = _picture(desk, request), await _question(request)
    settings = _settings(asked)
    settings.conditioning(desk.codec.dials)
    return _lines(desk, partial(work.code, desk.codec, picture, settings))


async def _compare(desk: Desk, request: Any) -> Any:
    picture, asked = _picture(desk, request), await _question(request)
    name, size = asked.get("codec"), asked.get("bytes")
    others = desk.others
    if name not in others:
        raise ArgumentError("no such codec here")
    if not isinstance(size, int) or size < 1:
        raise ArgumentError("a size is a number of bytes")
    return _lines(desk, partial(work.compare, picture, others[name], size))


async def _curve(desk: Desk, request: Any) -> Any:
    picture, asked = _picture(desk, request), await _question(request)
    settings = _settings(asked)
    settings.conditioning(desk.codec.dials)
    return _lines(desk, partial(work.curve, desk.codec, picture, settings.dials))


async def _made(desk: Desk, request: Any) -> Any:
    """What was made of a picture: to look at, where its bits are, or as files."""
    from starlette.responses import Response

    picture, kind = _picture(desk, request), request.path_params["kind"]
    made = picture.find_made(request.path_params["made"])
    if kind == "shown":
        return await _shown(picture, made.pixels)
    if made.conditioning is None or kind not in {"bits", "vrc", "png"}:
        raise UnknownError("there is no such file")
    if kind == "bits":
        return await desk.quick.run(lambda: _mapped(desk, picture, made))
    data, mime = made.data, "image/x-vrc"
    if kind == "png":
        data = await desk.patient.run(lambda: save_picture(desk.codec.decode(made.data), "png"))
        mime = "image/png"
    return Response(data, 200, {"Content-Disposition": "attachment"}, mime)


def _mapped(desk: Desk, picture: OpenPicture, made: Made) -> Any:
    """Where the bits of a file are, over what it shows."""
    blocks = bits_of_blocks(desk.codec.pipeline, made.data)
    facts = {"mean": blocks.mean(), "largest": blocks.max()}
    beneath = picture.in_srgb(made.pixels)
    return _bmp(map_of(blocks, beneath), {"X-Facts": json.dumps(facts)})


async def _styles(desk: Desk, request: Any) -> Any:
    """The styles that there are; the first to ask waits for PyTorch."""
    from starlette.responses import JSONResponse

    return JSONResponse(await desk.patient.run(desk.styles.described))


async def _styled(desk: Desk, request: Any) -> Any:
    """A picture in a style, with the dials in the address: to look at, or as a file."""
    from starlette.responses import Response

    picture, style = _picture(desk, request), request.path_params["style"]
    kind = request.path_params["kind"]
    if kind not in {"shown", "png"}:
        raise UnknownError("there is no such file")
    try:
        dials = {name: float(value) for name, value in request.query_params.items()}
    except ValueError as error:
        raise ArgumentError("a position on a dial is a number") from error
    lane = desk.patient if picture.is_large else desk.quick
    pixels = await lane.run(lambda: desk.styles.apply(style, picture.pixels, dials))
    if kind == "shown":
        return await _shown(picture, pixels)
    image = from_coded(pixels, False, picture.coded.extras)
    data = await lane.run(lambda: save_picture(image, "png"))
    return Response(data, 200, {"Content-Disposition": "attachment"}, "image/png")


async def _shown(picture: OpenPicture, pixels: NDArray[np.uint8], headers: Any = None) -> Any:
    """Samples of a picture, or of what was made of it, as browsers show them."""
    return await asyncio.to_thread(lambda: _bmp(picture.in_srgb(pixels), headers))


def _bmp(pixels: NDArray[np.uint8], headers: Any = None) -> Any:
    """A picture in sRGB, without loss, in the quickest format that browsers know."""
    from PIL import Image
    from starlette.responses import Response

    data = save_picture(Image.fromarray(pixels), "bmp")
    return Response(data, 200, headers, "image/bmp")


def _lines(desk: Desk, task: Callable[..., None]) -> Any:
    from starlette.responses import StreamingResponse

    return StreamingResponse(desk.patient.lines(task), 200, None, "application/x-ndjson")


def _picture(desk: Desk, request: Any) -> OpenPicture:
    return desk.shelf.find(request.path_params["picture"])


def _facts(desk: Desk, place: str) -> dict[str, Any]:
    picture = desk.shelf.find(place)
    height, width = picture.pixels.shape[:2]
    facts = {"id": place, "name": picture.name, "width": width, "height": height}
    facts["notes"] = list(picture.notes)
    if picture.file:
        facts["file"] = work.facts_of(desk.codec, picture.file, picture) | {
            "made": picture.file_name
        }
    return facts


async def _body(request: Any, limit: int) -> bytes:
    """A request's bytes. Raises _TooLargeError before more than the limit is kept."""
    words = _TooLargeError(f"more than {limit:,} bytes are not taken")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > limit:
        raise words
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise words
    return bytes(body)


async def _question(request: Any) -> dict[str, Any]:
    try:
        asked = json.loads(await _body(request, MAX_QUESTION))
    except (ValueError, RecursionError) as error:
        raise ArgumentError("a question is JSON") from error
    if not isinstance(asked, dict):
        raise ArgumentError("a question is an object in JSON")
    return asked


def _settings(asked: Mapping[str, Any]) -> EncodeSettings:
    """What a page wants. Raises ArgumentError, DialError, TargetError."""
    target, effort = asked.get("target"), asked.get("effort", 0)
    wanted = None
    if target is not None:
        try:
            wanted = Target(Measure(target["measure"]), float(target["value"]))
        except (TypeError, KeyError, ValueError) as error:
            raise ArgumentError("a target is a measure and a number") from error
    if not isinstance(effort, int):
        raise ArgumentError("an effort is a number from 0 to 9")
    return EncodeSettings.of(dials=asked.get("dials"), target=wanted, effort=effort)
