"""Codec: pictures to bytes and back. The one place where all parts meet.

::

    encode: pictures -> analysis -> round -> range coder -> container
    decode: container -> z -> scale indices (integers) -> y -> synthesis -> pictures

Large pictures pass through in tiles and y in bands of rows (tiling.py), so that beside the
picture itself only the tile at work and the symbols of a few rows are in memory.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vrcodec import pictures
from vrcodec.bitstream import container, range_coder
from vrcodec.bitstream.container import (
    CONDITIONING_ONE,
    MAX_HEIGHT,
    MAX_WIDTH,
    Header,
    Stream,
    SymbolsCrc,
)
from vrcodec.codec import tiling
from vrcodec.codec.refinement import MAX_EFFORT, STEPS, Search, SymbolCosts, Window, refine
from vrcodec.codec.tiling import DecoderSpans, EncoderSpans, Span
from vrcodec.conditional.dials import Conditioning
from vrcodec.errors import (
    CorruptError,
    PictureError,
    VrcodecError,
)
from vrcodec.model.config import BLOCK, GROUP, LATENT_CHANNELS
from vrcodec.model.loading import build
from vrcodec.model.weights_file import BUCKETS, check_named, default_weights, load_weights
from vrcodec.pictures.metrics import squared_error

_Item = TypeVar("_Item")


@dataclasses.dataclass(frozen=True)
class Latents:
    """A picture as the integers that are coded.

    Attributes:
        z: int16 (hyper, ceil(rows / 4), ceil(columns / 4)).
        y: int16 (768, rows, columns): round((latent - mean) / step).
        indexes: uint8, the table of every element of y.
    """

    z: NDArray[np.int16]
    y: NDArray[np.int16]
    indexes: NDArray[np.uint8]


BATCH_PIXELS = 1 << 20
"""Pixels that a GPU computes at a time, if the pictures are so small that several fit in."""
MAX_BATCH = 32

_PRICE_REACH = CONDITIONING_ONE // 20
"""How far to either side on the dial the price of an error is measured."""


class Codec:
    """A model on a device, ready to code any number of pictures.

    Args:
        weights: a weights file; by default the released one.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        max_pixels: larger pictures are refused before anything is allocated for them.

    Raises:
        WeightsError: the weights file is missing or broken.
        VrcodecError: there is no such device.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        device: str = "auto",
        max_pixels: int = pictures.MAX_PIXELS,
    ) -> None:
        self.device = select_device(device)
        self.max_pixels = max_pixels
        self.weights = load_weights(Path(weights) if weights else default_weights())
        model, self.scale_path = build(self.weights)
        self.model = model.to(self.device)
        self.set_memory_format(torch.channels_last)
        self.effort = 0
        self._second = 0.5
        # Other values are for tests: both are part of the codec.
        self.tile_side = tiling.TILE
        self.batch_pixels = 0 if self.device.type == "cpu" else BATCH_PIXELS

    @property
    def weights_id(self) -> str:
        """Hex digits that name the weights: all of their id, 16."""
        return self.weights.id

    @property
    def second(self) -> float:
        """Where in its range the second loss coefficient lies, 0 to 1, if the weights have one.

        Raises VrcodecError where it is set for weights that have not.
        """
        return self._second

    @second.setter
    def second(self, position: float) -> None:
        if self.weights.config.coefficients < 2:
            raise VrcodecError(
                f"weights {self.weights_id} have one loss coefficient, there is no second to choose"
            )
        self._second = position

    def conditioning(self, quality: float) -> tuple[int, ...]:
        """Header values of a quality in [0, 1]. Raises ValueError outside of that."""
        return conditioning_values(quality, self.weights.config.coefficients, self.second)

    def set_memory_format(self, memory_format: torch.memory_format) -> None:
        """Lay tensors out as `memory_format`: changes speed, and never a symbol."""
        self.memory_format = memory_format
        self.model.to(memory_format=memory_format)  # type: ignore[call-overload]

    def encode(
        self,
        image: Image.Image,
        quality: float = 0.5,
        strip: bool = False,
        effort: int | None = None,
    ) -> bytes:
        """Compress a picture.

        Args:
            image: any Pillow picture; see pictures.py for what is kept of each mode.
            quality: 0 (smallest) to 1 (best), linear in the logarithm of lambda.
            strip: drop EXIF, XMP, the ICC profile and the resolution.
            effort: 0 (fastest) to 9, more encoder time for fewer bits; see refinement.py. By
                default the attribute `effort`, which is 0.

        Returns:
            The contents of a .vrc file.

        Raises:
            PictureError: the picture cannot be read or exceeds `max_pixels`.
            ValueError: quality is not in [0, 1], or effort not one of 0 to 9.
        """
        self._check_pixels(*image.size)
        conditioning = self.conditioning(quality)
        effort = self.effort if effort is None else effort
        return self.encode_picture(pictures.to_coded(image, strip=strip), conditioning, effort)

    def encode_picture(
        self, picture: pictures.CodedPicture, conditioning: tuple[int, ...], effort: int = 0
    ) -> bytes:
        """The contents of a .vrc file for a prepared picture, at header values.

        What `pictures.to_coded` prepares serves every quality: prepare once, code often.
        Raises ValueError for an effort that there is not.
        """
        if effort not in range(MAX_EFFORT + 1):
            raise ValueError(f"effort {effort} is not one of 0 to {MAX_EFFORT}")
        if not effort:
            return self.encode_pictures([picture], conditioning)[0]
        search = Search(STEPS[effort], self._price_of_error(picture.pixels, conditioning))
        z = self._empty_z(1, *picture.pixels.shape[:2])
        bands = self._quantise(picture.pixels[None], conditioning, z, picture.grey, search)
        return self._pack(picture, conditioning, z[0], (band[0] for band in bands))

    def batch_size(self, width: int, height: int) -> int:
        """How many pictures of this size pass through the networks together.

        On a GPU a small picture leaves most of it idle. A batch that is not full is filled up, so
        that what becomes of a picture does not depend on its company.
        """
        rows, columns = -(-height // BLOCK), -(-width // BLOCK)
        if rows * columns > self.tile_side**2:
            return 1
        return min(max(1, self.batch_pixels // (rows * columns * BLOCK**2)), MAX_BATCH)

    def encode_pictures(
        self, pictures: Sequence[pictures.CodedPicture], conditioning: tuple[int, ...]
    ) -> list[bytes]:
        """What `encode_picture` gives of each, `batch_size` of them at a time.

        Raises ValueError if they differ in size, or in having colour.
        """
        if not pictures:
            return []
        if len({(picture.pixels.shape, picture.grey) for picture in pictures}) > 1:
            raise ValueError("pictures of a batch must be of one size, and all grey or none")
        height, width = pictures[0].pixels.shape[:2]
        files, size = [], self.batch_size(width, height)
        for start in range(0, len(pictures), size):
            part = pictures[start : start + size]
            pixels = _stack([picture.pixels for picture in _filled(part, size)])
            z = self._empty_z(size, height, width)
            bands = self._quantise(pixels, conditioning, z, part[0].grey)
            if size == 1:
                files.append(self._pack(part[0], conditioning, z[0], (band[0] for band in bands)))
                continue
            (symbols,) = bands
            for number, picture in enumerate(part):
                files.append(self._pack(picture, conditioning, z[number], [symbols[number]]))
        return files

    def _pack(
        self,
        picture: pictures.CodedPicture,
        conditioning: tuple[int, ...],
        z: NDArray[np.int16],
        bands: Iterable[NDArray[np.int16]],
    ) -> bytes:
        height, width = picture.pixels.shape[:2]
        header = Header(
            width,
            height,
            self.weights_id,
            Conditioning(conditioning),
            picture.grey,
            picture.sixteen_bit,
        )
        z_body, y_bodies, crc = self._write(z, bands, header)
        return container.pack(Stream(header, z_body, y_bodies, crc, picture.extras))

    def decode(self, data: bytes) -> Image.Image:
        """Decompress the contents of a .vrc file.

        Returns:
            A picture of mode L, LA, RGB or RGBA with the kept metadata in `info`.

        Raises:
            FormatError: not a .vrc file, truncated, corrupt, of an unknown version.
            UnknownWeightsError: made with other weights than these.
            PictureError: more pixels than `max_pixels`.
        """
        return self.decode_pictures([data])[0]

    def decode_pictures(self, files: Sequence[bytes]) -> list[Image.Image]:
        """What `decode` gives of each, `batch_size` of them at a time.

        Raises what `decode` raises for any of them, and ValueError if they differ in size or
        conditioning values.
        """
        if not files:
            return []
        streams = [container.unpack(data) for data in files]
        header = streams[0].header
        shape, conditioning = (header.height, header.width, 3), header.conditioning.values
        for stream in streams:
            if (stream.header.height, stream.header.width) != shape[:2] or (
                stream.header.conditioning.values != conditioning
            ):
                raise ValueError("files of a batch must be of one size and quality")
        self._check_pixels(header.width, header.height)
        images, size = [], self.batch_size(header.width, header.height)
        for start in range(0, len(streams), size):
            part = streams[start : start + size]
            pixels = np.empty((size, *shape), dtype=np.uint8)
            if size == 1:
                one, sections = self._read(part[0])
                z, bands = one[None], (section[None] for section in sections)
                self._reconstruct(z, bands, conditioning, pixels)
            else:
                latents = _filled([self.read_latents(stream) for stream in part], size)
                z, y = (np.stack([getattr(own, name) for own in latents]) for name in "zy")
                self._reconstruct(z, [y], conditioning, pixels)
            for number, stream in enumerate(part):
                images.append(
                    pictures.from_coded(pixels[number], stream.header.grey, stream.extras)
                )
        return images

    def latents(
        self, pixels: NDArray[np.uint8], conditioning: tuple[int, ...], grey: bool = False
    ) -> Latents:
        """What `encode` would code of RGB pixels (H, W, 3) at header values, all at once."""
        z = self._empty_z(1, *pixels.shape[:2])
        bands = self._quantise(pixels[None], conditioning, z, grey)
        y = np.concatenate([band[0] for band in bands], axis=1)
        indexes = self._indexes(z[0], conditioning, Span(0, y.shape[1]), y.shape[2])
        return Latents(z[0], y, indexes)

    def pixels(self, latents: Latents, conditioning: tuple[int, ...]) -> NDArray[np.uint8]:
        """RGB pixels (16 rows, 16 columns, 3) of latents decoded at header values."""
        _, rows, columns = latents.y.shape
        pixels = np.empty((1, BLOCK * rows, BLOCK * columns, 3), dtype=np.uint8)
        self._reconstruct(latents.z[None], [latents.y[None]], conditioning, pixels)
        return pixels[0]

    def estimate_bits(self, latents: Latents, conditioning: tuple[int, ...]) -> float:
        """Ideal code length of the latents under the model's tables, without any container."""
        z_bits = self.weights.z_tables.bits(latents.z, self._z_numbers(latents.z, conditioning))
        return z_bits + self.weights.y_tables.bits(latents.y, latents.indexes)

    def read_latents(self, stream: Stream) -> Latents:
        """Entropy-decode a file: integers only, the same on every machine.

        Raises:
            UnknownWeightsError, CorruptError.
        """
        z, sections = self._read(stream)
        y = np.concatenate(list(sections), axis=1)
        indexes = self._indexes(
            z, stream.header.conditioning.values, Span(0, y.shape[1]), y.shape[2]
        )
        return Latents(z, y, indexes)

    def write_latents(
        self, latents: Latents, header: Header
    ) -> tuple[bytes, tuple[bytes, ...], int]:
        """Entropy-code latents: section z, the y sections, and the symbols' CRC."""
        return self._write(latents.z, [latents.y], header)

    def summary(self) -> dict[str, Any]:
        """Size and cost of the model: parameters, and kMAC/pixel of encoder and decoder.

        Everything executed is counted, the entropy model included, on a 768x512 picture.
        """
        from vrcodec.evaluation.complexity import count_macs

        height, width = 512, 768
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        conditioning = self.conditioning(0.5)
        latents = self.latents(pixels, conditioning)
        encode = count_macs(self.model, lambda: self.latents(pixels, conditioning))
        decode = count_macs(
            self.model,
            lambda: (
                self._indexes(
                    latents.z, conditioning, Span(0, latents.y.shape[1]), latents.y.shape[2]
                ),
                self.pixels(latents, conditioning),
            ),
        )
        return {
            "weights_id": self.weights_id,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "lambda_ranges": self.weights.config.lambda_ranges,
            "encode_kmac_per_pixel": encode["total"] / (height * width) / 1e3,
            "decode_kmac_per_pixel": decode["total"] / (height * width) / 1e3,
        }

    def _quantise(
        self,
        pixels: NDArray[np.uint8],
        conditioning: tuple[int, ...],
        z: NDArray[np.int16],
        grey: bool,
        search: Search | None = None,
    ) -> Iterator[NDArray[np.int16]]:
        """Symbols of y from pixels (B, H, W, 3), a band (B, 768, some rows, columns) at a time.

        Fills `z`, with every band as far as the scale indices of its rows need it.
        """
        rows, columns = (-(-side // BLOCK) for side in pixels.shape[1:3])
        config = self.weights.config
        tile_rows, tile_columns = tiling.tiles(rows, columns, self.tile_side)
        across = [EncoderSpans.of(tile, columns, config) for tile in tile_columns]
        for tile in tile_rows:
            down = EncoderSpans.of(tile, rows, config)
            band = np.empty((len(pixels), LATENT_CHANNELS, len(tile), columns), dtype=np.int16)
            for right in across:
                band[..., right.tile.at] = self._quantise_tile(
                    pixels, z, down, right, conditioning, grey, search
                )
            yield band

    def _quantise_tile(
        self,
        pixels: NDArray[np.uint8],
        z: NDArray[np.int16],
        down: EncoderSpans,
        across: EncoderSpans,
        conditioning: tuple[int, ...],
        grey: bool,
        search: Search | None,
    ) -> NDArray[np.int16]:
        height, width = pixels.shape[1:3]
        vector = self._vector(conditioning)
        window = pixels[
            :, down.analysed.scaled(BLOCK, height).at, across.analysed.scaled(BLOCK, width).at
        ]
        each = [self._on_device(part).permute(2, 0, 1)[None].float() / 255 for part in window]
        x = each[0] if len(each) == 1 else torch.cat(each)
        x = x.contiguous(memory_format=self.memory_format)
        with _plain_float32():
            y = self.model.latents(x, vector)
            y = y[..., down.y.within(down.analysed), across.y.within(across.analysed)]
            z_made = self.model.hyper_symbols(y, vector)
            z_made = z_made[..., down.z.within(down.z_made), across.z.within(across.z_made)]
            z[..., down.z.at, across.z.at] = z_made.short().cpu().numpy()
            y = y[..., down.coded.within(down.y), across.coded.within(across.y)]
            z_seen = self._on_device(z[..., down.z_seen.at, across.z_seen.at])
            at = down.features, across.features
            if search:
                coded = (
                    down.coded.within(down.analysed, BLOCK),
                    across.coded.within(across.analysed, BLOCK),
                )
                indexes = self.scale_path.indexes(z_seen[0], conditioning)[:, at[0], at[1]]
                config = self.weights.config
                free = torch.from_numpy(np.outer(down.free(config), across.free(config)))
                part = Window(
                    x[..., coded[0], coded[1]],
                    y,
                    z_seen[0],
                    at,
                    indexes[None].long().to(self.device),
                    free.to(self.device),
                )
                y = refine(self.model, self._symbol_costs, part, vector, search)
            symbols = self.model.symbols(y, z_seen, vector, at, grey)
        symbols = symbols[..., down.tile.within(down.coded), across.tile.within(across.coded)]
        return symbols.short().cpu().numpy()

    def _price_of_error(self, pixels: NDArray[np.uint8], conditioning: tuple[int, ...]) -> float:
        """What the dial pays, in bits, for one squared error less on this picture.

        The slope of the picture's own rate-distortion curve, measured between a little less and
        a little more quality, with errors in 8-bit levels. By trading at this price the latents
        improve on the curve; with lambda, the price in training, they would only slide along
        it wherever the weights' dial is steeper.
        """
        picture = pictures.CodedPicture(pixels, False, False, None, {}, ())
        points = []
        for shift in (-_PRICE_REACH, _PRICE_REACH):
            first = min(max(conditioning[0] + shift, 0), CONDITIONING_ONE)
            data = self.encode_picture(picture, (first, *conditioning[1:]))
            decoded = np.empty_like(pixels)
            z, sections = self._read(container.unpack(data))
            bands = (section[None] for section in sections)
            self._reconstruct(z[None], bands, (first, *conditioning[1:]), decoded[None])
            points.append((8 * len(data), squared_error(pixels, decoded)))
        (fewer, larger), (more, smaller) = points
        (trained, *_) = self.weights.config.dials.coefficients(
            tuple(value / CONDITIONING_ONE for value in conditioning)
        )
        usual = trained / 3  # lambda is the price of the mean over three samples per pixel
        if more <= fewer or larger <= smaller:
            return usual
        return min(max((more - fewer) / (larger - smaller), usual / 4), usual * 4)

    @functools.cached_property
    def _symbol_costs(self) -> SymbolCosts:
        return SymbolCosts(self.weights.y_tables, self.device)

    def _write(
        self, z: NDArray[np.int16], bands: Iterable[NDArray[np.int16]], header: Header
    ) -> tuple[bytes, tuple[bytes, ...], int]:
        """Section z, the y sections, and the symbols' CRC; z may fill as bands are drawn."""
        columns, conditioning = header.latent_size[1], header.conditioning.values
        spans = [Span(top, bottom) for top, bottom in header.sections]
        sections, y_crc = [], SymbolsCrc(0)
        for span, parts in zip(spans, tiling.restack(bands, spans), strict=True):
            part = np.concatenate(parts, axis=1)
            indexes = self._indexes(z, conditioning, span, columns)
            y_tables = self.weights.y_tables
            sections.append(range_coder.encode(part.ravel(), indexes.ravel(), y_tables))
            y_crc.update(part)
        z_crc = SymbolsCrc()
        z_crc.update(z)
        z_numbers = self._z_numbers(z, conditioning)
        z_body = range_coder.encode(z.ravel(), z_numbers, self.weights.z_tables)
        return z_body, tuple(sections), y_crc.after(z_crc)

    def _read(self, stream: Stream) -> tuple[NDArray[np.int16], Iterator[NDArray[np.int16]]]:
        """z, and the symbols of y section by section; see `read_latents`."""
        header = stream.header
        check_named(header.weights_id, self.weights_id)
        if len(header.conditioning.values) != self.weights.config.coefficients:
            raise CorruptError(f"{len(header.conditioning.values)} conditioning values")
        (z,) = self._empty_z(1, header.height, header.width)
        numbers = self._z_numbers(z, header.conditioning.values)
        z[...] = range_coder.decode(stream.z, numbers, self.weights.z_tables).reshape(z.shape)
        return z, self._read_sections(stream, z)

    def _read_sections(self, stream: Stream, z: NDArray[np.int16]) -> Iterator[NDArray[np.int16]]:
        rows, columns = stream.header.latent_size
        crc = SymbolsCrc()
        crc.update(z)
        for body, (top, bottom) in zip(stream.y, stream.header.sections, strict=True):
            indexes = self._indexes(
                z, stream.header.conditioning.values, Span(top, bottom), columns
            )
            symbols = range_coder.decode(body, indexes.ravel(), self.weights.y_tables)
            part = symbols.astype(np.int16).reshape(indexes.shape)
            crc.update(part)
            if bottom == rows and crc.value != stream.symbols_crc:
                raise CorruptError("checksum of the decoded symbols does not match")
            yield part

    def _reconstruct(
        self,
        z: NDArray[np.int16],
        sections: Iterable[NDArray[np.int16]],
        conditioning: tuple[int, ...],
        pixels: NDArray[np.uint8],
    ) -> None:
        """Fill pixels (B, H, W, 3) from z and y's symbols, (B, 768, some rows, columns) each."""
        height, width = pixels.shape[1:3]
        rows, columns = -(-height // BLOCK), -(-width // BLOCK)
        config, vector = self.weights.config, self._vector(conditioning)
        tile_rows, tile_columns = tiling.tiles(rows, columns, self.tile_side)
        bands = [DecoderSpans.of(tile, rows, config) for tile in tile_rows]
        across = [DecoderSpans.of(tile, columns, config) for tile in tile_columns]
        windows = tiling.restack(sections, [band.decoded for band in bands])
        for down, parts in zip(bands, windows, strict=True):
            for right in across:
                y = np.concatenate([part[..., right.decoded.at] for part in parts], axis=-2)
                tile = self._reconstruct_tile(z, y, down, right, vector)
                place = pixels[
                    :, down.tile.scaled(BLOCK, height).at, right.tile.scaled(BLOCK, width).at
                ]
                place[...] = tile[:, : place.shape[1], : place.shape[2]]

    def _reconstruct_tile(
        self,
        z: NDArray[np.int16],
        y: NDArray[np.int16],
        down: DecoderSpans,
        across: DecoderSpans,
        vector: torch.Tensor,
    ) -> NDArray[np.uint8]:
        with _plain_float32(), torch.no_grad():
            x_hat = self.model.reconstruct(
                self._on_device(z[..., down.z_seen.at, across.z_seen.at]),
                self._on_device(y),
                vector,
                (down.features, across.features),
            )
            rows = down.tile.within(down.decoded, BLOCK)
            columns = across.tile.within(across.decoded, BLOCK)
            eight_bit = torch.round(x_hat[..., rows, columns].clamp(0, 1) * 255).to(torch.uint8)
        return eight_bit.permute(0, 2, 3, 1).cpu().numpy()

    def _z_numbers(self, z: NDArray[np.int16], conditioning: tuple[int, ...]) -> NDArray[np.int64]:
        """Table of every element of z (hyper, h, w), flat: by channel and quality bucket."""
        bucket = min(conditioning[0] * BUCKETS // CONDITIONING_ONE, BUCKETS - 1)
        channels = self.weights.config.hyper
        return bucket * channels + np.repeat(np.arange(channels), z.shape[1] * z.shape[2])

    def _indexes(
        self, z: NDArray[np.int16], conditioning: tuple[int, ...], rows: Span, columns: int
    ) -> NDArray[np.uint8]:
        """The table of every symbol in some rows of y; looks at no more of z than they need."""
        seen = rows.groups(1, z.shape[1])
        features = self.scale_path.features(self._on_device(z[:, seen.at]), conditioning)
        features = features[:, tiling.feature_slice(rows, seen), :columns]
        return self.scale_path.indexes_of(features, conditioning).cpu().numpy()

    def _empty_z(self, count: int, height: int, width: int) -> NDArray[np.int16]:
        grid = (-(-side // (BLOCK * GROUP)) for side in (height, width))
        return np.empty((count, self.weights.config.hyper, *grid), dtype=np.int16)

    def _on_device(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.array(array)).to(self.device)

    def _vector(self, conditioning: tuple[int, ...]) -> torch.Tensor:
        return torch.tensor([conditioning], device=self.device) / CONDITIONING_ONE

    def _check_pixels(self, width: int, height: int) -> None:
        if width > MAX_WIDTH or height > MAX_HEIGHT:
            raise PictureError(
                f"{width}x{height} is too large for a .vrc file "
                f"(at most {MAX_WIDTH} wide and {MAX_HEIGHT} high)"
            )
        if width * height > self.max_pixels:
            raise PictureError(
                f"{width}x{height} pixels exceed the limit of {self.max_pixels} (--max-pixels)"
            )


def conditioning_values(
    quality: float, coefficients: int = 1, further: float = 0.5
) -> tuple[int, ...]:
    """Header values of a quality, and of where further coefficients lie, all in [0, 1].

    Raises:
        ValueError: one is outside [0, 1].
    """
    for position in (quality, further):
        if not 0 <= position <= 1 or math.isnan(position):
            raise ValueError(f"quality {position} is not in [0, 1]")
    values = [quality, *[further] * (coefficients - 1)]
    return tuple(round(position * CONDITIONING_ONE) for position in values)


def select_device(name: str) -> torch.device:
    """The device of a name; "auto" is CUDA if there is one. Raises VrcodecError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise VrcodecError(f"device {name} is not available: {reason}") from error
    return device


def _filled(items: Sequence[_Item], size: int) -> list[_Item]:
    """`items`, and the last one again until there are `size`."""
    return [*items, *[items[-1]] * (size - len(items))]


def _stack(arrays: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)  # a large one is not copied


@contextmanager
def _plain_float32() -> Iterator[None]:
    """float32 convolutions as such on GPUs: no TF32."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
