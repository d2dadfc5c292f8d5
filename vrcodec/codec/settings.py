"""What a user can say about coding a picture, in one frozen object. No torch here.

`EncodeSettings` goes as it is from the command line or a caller to the worker that codes the
picture, and the marks of batches are a digest of the whole of it.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
import sys
from collections.abc import Mapping

from vrcodec.arguments import is_real, is_whole, real_number
from vrcodec.conditional.dials import QUALITY, TUNE, Conditioning, Dials
from vrcodec.errors import ArgumentError, TargetError

MAX_EFFORT = 9
DEFAULT_QUALITY = 0.5


class Measure(enum.Enum):
    """What a target is about; the value is what people call it."""

    SIZE = "size"
    BPP = "bpp"
    PSNR = "psnr"
    MS_SSIM = "ms-ssim"
    SSIMULACRA2 = "ssimulacra2"

    @property
    def is_rate(self) -> bool:
        """Whether a target is a limit of the file's size."""
        return self in {Measure.SIZE, Measure.BPP}


_UNITS = {
    Measure.SIZE: "{:,.0f} bytes",
    Measure.BPP: "{:.4g} bpp",
    Measure.PSNR: "{:.2f} dB",
    Measure.MS_SSIM: "MS-SSIM {:.4f}",
    Measure.SSIMULACRA2: "SSIMULACRA2 {:.1f}",
}

_TUNED_FOR = {Measure.PSNR: 0.0, Measure.MS_SSIM: 1.0, Measure.SSIMULACRA2: 1.0}
"""Where on TUNE files are smallest that reach a fidelity."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What a file has to keep to.

    Attributes:
        measure: of the size, never exceeded, or of the fidelity, always reached; or its name.
        value: bytes, bits per pixel of the whole file, dB, MS-SSIM below 1, or SSIMULACRA2.

    Raises:
        ArgumentError: there is no such measure, or the value is no number.
        TargetError: the value is not finite.
    """

    measure: Measure
    value: float

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "measure", Measure(self.measure))
        except ValueError:
            names = ", ".join(measure.value for measure in Measure)
            raise ArgumentError(f"a target is of {names}, not {self.measure!r:.60}") from None
        if not is_real(self.value):
            raise ArgumentError(f"a target's value is a number, not {self.value!r:.60}")
        try:
            finite = math.isfinite(self.value)
        except OverflowError:  # an integer beyond all floats
            object.__setattr__(self, "value", sys.float_info.max)
            return
        if not finite:
            raise TargetError(f"a target of {self.value} cannot be reached")

    def __str__(self) -> str:
        return _UNITS[self.measure].format(self.value)


@dataclasses.dataclass(frozen=True)
class EncodeSettings:
    """How pictures are coded.

    Attributes:
        dials: (name, position in [0, 1]) of the dials that are not at their default, sorted.
        target: what decides the quality instead of a position; the other dials stay as said.
        best_effort: take the nearest end of the dial where a target cannot be reached.
        effort: 0 (fastest) to 9 (fewest bits at equal quality).
        strip: leave ICC profile, EXIF, XMP and resolution out.
    """

    dials: tuple[tuple[str, float], ...] = ()
    target: Target | None = None
    best_effort: bool = False
    effort: int = 0
    strip: bool = False

    def __post_init__(self) -> None:
        if not is_whole(self.effort) or not 0 <= self.effort <= MAX_EFFORT:
            raise ArgumentError(f"effort {self.effort!r:.60} is not one of 0 to {MAX_EFFORT}")
        object.__setattr__(self, "effort", int(self.effort))
        object.__setattr__(self, "dials", tuple(sorted(self.dials)))

    @classmethod
    def of(
        cls,
        quality: float | None = None,
        dials: Mapping[str, float] | None = None,
        target: Target | None = None,
        best_effort: bool = False,
        effort: int = 0,
        strip: bool = False,
    ) -> EncodeSettings:
        """The settings that these keywords say.

        Raises:
            ArgumentError: one is not of its kind, or two exclude each other: a quality, one among
                the dials, a target.
        """
        if not isinstance(dials, Mapping | None) or not all(
            isinstance(k, str) for k in dials or ()
        ):
            raise ArgumentError(f"dials are a mapping of names to positions, not {dials!r}")
        chosen = dict(dials or {})
        if quality is not None:
            if chosen.get(QUALITY, quality) is not quality and chosen[QUALITY] != quality:
                raise ArgumentError(f"a quality is given twice: {quality} and {chosen[QUALITY]}")
            chosen[QUALITY] = quality
        chosen = {name: _position(name, position) for name, position in chosen.items()}
        if target is not None and not isinstance(target, Target):
            raise ArgumentError(f"a target is a Target(Measure, value), not {target!r}")
        if target is not None and QUALITY in chosen:
            raise ArgumentError("a quality and a target exclude each other")
        return cls(tuple(chosen.items()), target, best_effort, effort, strip)

    def at_quality(self, position: float) -> EncodeSettings:
        """The same with a quality instead of a target."""
        others = tuple((name, at) for name, at in self.dials if name != QUALITY)
        return dataclasses.replace(self, dials=((QUALITY, position), *others), target=None)

    def conditioning(self, dials: Dials) -> Conditioning:
        """Where on a model's dials this is; a target's quality is at its default.

        A target of fidelity, too, says what quality means: where nothing else does, a second dial
        is where files that reach it are smallest.

        Raises:
            DialError: the model has no such dial, or a position is not in [0, 1].
        """
        positions = dict(self.dials)
        if self.target and self.target.measure in _TUNED_FOR and TUNE in dials.names:
            positions.setdefault(TUNE, _TUNED_FOR[self.target.measure])
        return dials.conditioning(positions)

    def digest(self, **further: object) -> bytes:
        """Digest of all of this and of what else decides about a result, 8 bytes."""
        text = json.dumps(
            dataclasses.asdict(self) | {"further": further}, sort_keys=True, default=_plain
        )
        return hashlib.sha256(text.encode()).digest()[:8]


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A picture, coded.

    Attributes:
        data: the contents of a .vrc file.
        conditioning: where on the dials it is coded.
        reached: whether it keeps to the target; False only for the nearest end of the dial, with
            `best_effort`.
        achieved: what the target measures, of this file; None without a target.
    """

    data: bytes
    conditioning: Conditioning
    reached: bool = True
    achieved: float | None = None


def _position(name: str, value: object) -> float:
    """A number as a float. Raises ArgumentError."""
    return real_number(name, value, "from 0 to 1")


def _plain(value: object) -> object:
    return value.value if isinstance(value, enum.Enum) else str(value)
