"""Pillow's plugin for .vrc files: `Image.open("x.vrc")` and `im.save("x.vrc", quality=0.3)`.

`import vrcodec` registers it. Size, mode and metadata of a file need no torch; it or ONNX Runtime
is imported when pixels are asked for. `save` takes the keywords of `vrcodec.encode` and writes the
file that this makes, and what it says of losses are warnings.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, ImageFile, UnidentifiedImageError

from vrcodec.arguments import is_real
from vrcodec.bitstream.container import MAGIC, MAX_HEIGHT, MAX_WIDTH, Extra, unpack
from vrcodec.bitstream.grid import REDUCTIONS
from vrcodec.codec.settings import EncodeSettings
from vrcodec.codec.shared import shared_codec
from vrcodec.errors import ArgumentError, FormatError, NotVrcError, VrcodecError
from vrcodec.pictures.results import reduced_size

if TYPE_CHECKING:
    from PIL._imaging import PixelAccess

FORMAT, SUFFIX, MIME = "VRC", ".vrc", "image/x-vrc"

WEIGHTS: str | os.PathLike[str] | None = None
"""Weights for all files that Pillow opens and saves; None: the released ones."""
DEVICE = "auto"
"""Where pixels are computed: "auto", "cpu", "cuda", "cuda:N" or "mps"."""
THREADS: int | None = None
"""With how many threads of a CPU; None: as many as suit each picture."""
RUNTIME = "auto"
"""What computes: "auto", "onnx" or "torch"."""

_MODEL = ("weights", "device", "threads", "runtime", "precision")
_SETTINGS = ("target", "best_effort", "effort", "strip")
_METADATA = {"icc_profile": Extra.ICC, "exif": Extra.EXIF, "xmp": Extra.XMP, "dpi": Extra.DPI}
_METADATA_KINDS = {
    "icc_profile": "the bytes of a profile",
    "exif": "bytes or an Image.Exif",
    "xmp": "bytes",
    "dpi": "two numbers above zero, across and down",
}
_LARGEST = MAX_WIDTH * MAX_HEIGHT
"""Pillow has a limit of its own."""


class VrcImageFile(ImageFile.ImageFile):
    """A .vrc file, opened; its pixels are decoded when they are first needed.

    Raises:
        SyntaxError: it is no .vrc file; from `Image.open` an UnidentifiedImageError.
        UnidentifiedImageError: it is one, but damaged or of an unknown version.
        OSError: its pixels cannot be decoded.
    """

    format = FORMAT
    format_description = "vrcodec picture"
    _data: bytes | None = None
    _reduce = 1

    def _open(self) -> None:
        from vrcodec.pictures.metadata import info_of

        assert self.fp is not None
        data = self.fp.read()
        try:
            stream = unpack(data)
            self.info.update(info_of(stream.extras, stream.header.grey))
        except NotVrcError as error:
            raise SyntaxError(str(error)) from error
        except FormatError as error:
            raise UnidentifiedImageError(f"cannot read {self._called}: {error}") from error
        self._size = stream.header.width, stream.header.height
        self._mode = ("L" if stream.header.grey else "RGB") + "A" * (Extra.ALPHA in stream.extras)
        self._data = data

    @property
    def _called(self) -> str:
        return repr(self.filename) if self.filename else "a .vrc file"

    def draft(
        self, mode: str | None, size: tuple[int, int] | None
    ) -> tuple[str, tuple[int, int, float, float]] | None:
        """Have a smaller picture decoded, at least of some size, for a part of the work.

        As in Pillow's plugin for JPEG; `thumbnail` does so by itself. The mode stays.
        """
        if self._data is None or self._reduce > 1 or not size:
            return None
        factor = min(side // max(1, wanted) for side, wanted in zip(self.size, size, strict=True))
        self._reduce = max(reduce for reduce in REDUCTIONS if reduce <= max(1, factor))
        if self._reduce == 1:
            return None
        width, height = self.size
        self._size = reduced_size(self.size, self._reduce)
        return self.mode, (0, 0, width / self._reduce, height / self._reduce)

    def load(self) -> PixelAccess | None:
        if self._data is not None and self.fp is not None:
            with _as_oserror(f"cannot decode {self._called}"):
                codec = shared_codec(WEIGHTS, DEVICE, THREADS, RUNTIME, max_pixels=_LARGEST)
                self.im = codec.decode(self._data, self._reduce).im
            self._data, self.readonly = None, 0
            if self._exclusive_fp:
                self.fp.close()
            self.fp = None
        return super().load()


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes, stacklevel: int = 3) -> None:
    from vrcodec.codec.presets import chosen_quality

    options = {key: value for key, value in image.encoderinfo.items() if value is not None}
    model: dict[str, Any] = {
        "weights": WEIGHTS,
        "device": DEVICE,
        "threads": THREADS,
        "runtime": RUNTIME,
    }
    with _as_oserror("cannot save as VRC"):
        model |= _of(options, _MODEL)
        codec = shared_codec(**model, max_pixels=options.get("max_pixels", _LARGEST))
        quality = chosen_quality(options.get("quality"), options.get("preset"), model["weights"])
        dials = _dials(options, codec.dials.names[1:])
        settings = EncodeSettings.of(quality, dials, **_of(options, _SETTINGS))
        picture = codec.prepared(_with_metadata(image), settings.strip)
        for key, section in _METADATA.items():
            if not image.encoderinfo.get(key, True):
                picture.extras.pop(section, None)
        data = codec.encode_pictures([picture], settings)[0].data
    for note in picture.notes:
        warnings.warn(note, stacklevel=stacklevel)
    fp.write(data)


def _save_all(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    more = image.encoderinfo.get("append_images")
    if more or getattr(image, "n_frames", 1) > 1:
        raise ValueError("a .vrc file holds one picture: save the frames one by one")
    _save(image, fp, filename, stacklevel=4)


def _of(options: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def _dials(options: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """What `save` was told as `dials`, and by the name of each dial as a keyword."""
    by_name = {name: options.get(name.replace("-", "_")) for name in names}
    chosen = {name: position for name, position in by_name.items() if position is not None}
    given = options.get("dials", {})
    if not isinstance(given, Mapping):
        raise ArgumentError(f"dials are a mapping of names to positions, not {given!r:.60}")
    return {**given, **chosen}


def _with_metadata(image: Image.Image) -> Image.Image:
    """The picture with the metadata that `save` was given, where that is not to leave some out."""
    given = {key: image.encoderinfo[key] for key in _METADATA if image.encoderinfo.get(key)}
    for key, value in given.items():
        if not _is_metadata(key, value):
            raise ArgumentError(f"{key} is {_METADATA_KINDS[key]}, not {value!r:.60}")
    if not given:
        return image
    from vrcodec.pictures.reading import load

    result = load(image).copy()
    result.info.update(given)
    return result


def _is_metadata(key: str, value: object) -> bool:
    """Whether this is what Pillow has under such a key."""
    if key == "dpi":
        sides = value if isinstance(value, tuple | list) else ()
        return len(sides) == 2 and all(is_real(side) and side > 0 for side in sides)
    return isinstance(value, bytes) or (key == "exif" and isinstance(value, Image.Exif))


@contextlib.contextmanager
def _as_oserror(what: str) -> Iterator[None]:
    """Errors as Pillow's plugins have them: wrong arguments a ValueError, all else an OSError."""
    try:
        yield
    except VrcodecError as error:
        if isinstance(error, ValueError):
            raise
        raise OSError(f"{what}: {error}") from error


Image.register_open(FORMAT, VrcImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_save_all(FORMAT, _save_all)
Image.register_extension(FORMAT, SUFFIX)
Image.register_mime(FORMAT, MIME)
