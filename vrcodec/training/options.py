"""Options of a training run, each in one place: default, bounds, help. No torch here.

`LoopOptions` are those of any task, `TrainingOptions` the codec's. Command lines are generated from
them, and checkpoints hold one, so that a run goes on without being told again what it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from vrcodec.errors import VrcodecError
from vrcodec.model.precision import PRECISIONS

LOSSES = ("mse", "ms-ssim", "xyb", "tune")
PERCEPTUAL = ("xyb", "ms-ssim", "both")
OPTIMIZERS = ("adamw", "muon")
DISABLED = math.inf
Options = TypeVar("Options", bound="LoopOptions")


@dataclasses.dataclass(frozen=True)
class About:
    """What is known of an option beside its name, type and default.

    Attributes:
        help: for people, without a full stop where it goes on with the default.
        flag: on the command line, if it is not the field's name.
        metavar: what stands for the value.
        least, most: bounds, both allowed.
        above: a bound that is not allowed itself.
        multiple: what it has to be a multiple of.
        choices: the texts that are allowed.
        free: whether a resumed run may be given another value. What is learned, and from what, is
            not free; how long, how fast and where is.
        none: how the default is said, where its value says little.
    """

    help: str
    flag: str | None = None
    metavar: str | None = None
    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    multiple: int = 1
    choices: tuple[str, ...] = ()
    free: bool = False
    none: str = ""

    def refusal(self, value: Any) -> str:
        """Why a value is impossible, in a few words; empty if it is not."""
        if self.choices:
            return "" if value in self.choices else f"is not one of {', '.join(self.choices)}"
        if isinstance(value, bool):
            return ""
        if not self.least <= value <= self.most or value <= self.above:  # so is a NaN
            bounds = [f"above {self.above:g}"] if self.above > -math.inf else []
            bounds += [f"at least {self.least:g}"] if self.least > -math.inf else []
            bounds += [f"at most {self.most:g}"] if self.most < math.inf else []
            return "must be " + " and ".join(bounds or ["a number"])
        fits = self.multiple == 1 or value % self.multiple == 0
        return "" if fits else f"must be a multiple of {self.multiple}"


def option(default: Any, help: str, **about: Any) -> Any:
    """A field with a default, and what is known of it: see `About`."""
    return dataclasses.field(default=default, metadata={"about": About(help, **about)})


@dataclasses.dataclass(frozen=True)
class LoopOptions:
    """What the loop needs to know of a run, whatever is trained.

    Raises:
        VrcodecError: a value is of the wrong kind or out of its bounds.
    """

    max_time: float = option(
        math.inf,
        "Seconds that the run may take: reading pictures, training, measuring and writing, earlier "
        "parts of a resumed run included.",
        metavar="SECONDS",
        above=0,
        free=True,
        none="no limit",
    )
    max_steps: int = option(
        0,
        "Optimiser steps in all.",
        flag="--steps",
        metavar="N",
        least=0,
        free=True,
        none="no limit",
    )
    batch: int = option(8, "Crops a step, over all processes.", least=1, most=65536, free=True)
    patch: int = option(
        128, "Side of the square crops.", metavar="SIDE", least=1, most=4096, free=True
    )
    final_patch: int = option(
        0,
        "Side of the crops while the learning rate falls.",
        metavar="SIDE",
        least=0,
        most=4096,
        free=True,
        none="as before",
    )
    final_batch: int = option(
        0,
        "Crops a step then.",
        metavar="N",
        least=0,
        most=65536,
        free=True,
        none="as many pixels as before",
    )
    lr: float = option(
        1e-3, "Learning rate before the decay.", metavar="RATE", above=0, most=10, free=True
    )
    optimizer: str = option(
        "adamw", "Muon updates the matrices, AdamW the rest.", choices=OPTIMIZERS
    )
    warmup_steps: int = option(
        200,
        "Steps over which the learning rate rises.",
        flag="--warmup",
        metavar="N",
        least=0,
        free=True,
    )
    decay: float = option(
        0.3,
        "Last share of the budget, over which the learning rate falls to 1 %.",
        metavar="SHARE",
        least=0,
        most=1,
        free=True,
    )
    clip: float = option(1.0, "Largest norm of the gradient.", metavar="NORM", above=0)
    ema: float = option(
        0.999, "Memory of the averaged weights.", metavar="SHARE", least=0, most=0.999999
    )
    seed: int = option(0, "Of all that is drawn at random.", least=0, most=2**63 - 1)
    checkpoint_every: float = option(
        300.0, "Seconds between checkpoints.", metavar="SECONDS", above=0, free=True
    )
    log_steps: int = option(
        50, "Steps after which a row is logged.", metavar="N", least=1, free=True
    )
    log_every: float = option(
        30.0,
        "Seconds after which a row is logged, if there was none before.",
        metavar="SECONDS",
        above=0,
        free=True,
    )
    precision: str = option(
        "auto",
        "What networks compute in. auto: the faster one here, by timing both.",
        choices=PRECISIONS,
        free=True,
    )
    threads: int = option(
        0,
        "Threads of a process on the CPU.",
        metavar="N",
        least=0,
        most=4096,
        free=True,
        none="what torch chooses",
    )
    compile: bool = option(False, "Use torch.compile.", free=True)
    tensorboard: bool = option(False, "Log for TensorBoard, too, in RUN/tensorboard.", free=True)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            about, value = about_option(field), getattr(self, field.name)
            kind = type(field.default)
            if kind is float and type(value) is int:
                value = float(value)
                object.__setattr__(self, field.name, value)
            if type(value) is not kind:
                raise VrcodecError(f"{label(field)}: {value!r:.60} is no {_KINDS[kind]}")
            unset = value == field.default and about.none
            if not unset and (refusal := about.refusal(value)):
                raise VrcodecError(f"{label(field)}: {value!r:.60} {refusal}")

    def crops(self, annealing: bool, processes: int = 1) -> tuple[int, int]:
        """Crops a step and the side of each; every process gets the same number."""
        if not annealing:
            return self.batch, self.patch
        side = self.final_patch or self.patch
        count = self.final_batch or self.batch * (self.patch / side) ** 2
        return max(1, round(count / processes)) * processes, side

    def to_dict(self) -> dict[str, Any]:
        """The options as a checkpoint holds them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls: type[Options], values: Mapping[str, Any]) -> Options:
        """Inverse of `to_dict`; what is not named has its default.

        Raises:
            VrcodecError: there is no such option, or a value is impossible.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := [str(name) for name in values if name not in known]:
            raise VrcodecError(f"there is no training option {unknown[0]!r:.60}")
        return cls(**values)

    def resumed(self: Options, given: Mapping[str, Any]) -> tuple[Options, list[str]]:
        """The options of a run that goes on, where some were given anew.

        Returns:
            the options, and a line for each that is now another.

        Raises:
            VrcodecError: one that has to stay was given another value.
        """
        changed = dataclasses.replace(self, **given)
        lines = []
        for field in dataclasses.fields(self):
            old, new = getattr(self, field.name), getattr(changed, field.name)
            if old == new:
                continue
            if not about_option(field).free:
                raise VrcodecError(f"{label(field)} is {old} in this run, it cannot become {new}")
            lines.append(f"{label(field)}: {_said(field, old)}, from now on {_said(field, new)}")
        return changed, lines


@dataclasses.dataclass(frozen=True)
class TrainingOptions(LoopOptions):
    """Everything about a run of the codec but the pictures, the shape of the model and the device.

    Raises:
        VrcodecError: a value is of the wrong kind or out of its bounds.
    """

    patch: int = option(
        128,
        "Side of the square crops, a multiple of 64.",
        metavar="SIDE",
        least=64,
        most=4096,
        multiple=64,
        free=True,
    )
    final_patch: int = option(
        0,
        "Side of the crops while the learning rate falls, a multiple of 64.",
        metavar="SIDE",
        least=0,
        most=4096,
        multiple=64,
        free=True,
        none="as before",
    )
    loss: str = option(
        "mse",
        "Distortion. tune: from squared error to a perceptual loss, by a dial of the model.",
        choices=LOSSES,
    )
    perceptual: str = option(
        "xyb",
        "The other end of --loss tune: xyb, the error maps of SSIMULACRA2; MS-SSIM; or both.",
        choices=PERCEPTUAL,
    )
    ms_ssim_parts: float = option(
        2.0,
        "Crops that learn MS-SSIM to one that learns xyb, where --perceptual is both. With 1 "
        "MS-SSIM hardly gains, with 10 SSIMULACRA2 loses.",
        metavar="N",
        above=0,
        most=1e6,
    )
    fidelity_share: float = option(
        0.25,
        "Share of the crops of --loss tune that are for squared error alone, besides those all "
        "along the dial.",
        metavar="SHARE",
        least=0,
        most=1,
    )
    only_quality: float = option(
        DISABLED,
        "Train for one quality instead of the whole dial, to compare with.",
        metavar="Q",
        least=0,
        none="the whole dial",
    )
    lambda_weight: float = option(
        0.5,
        "Loss (R + lambda D) / lambda^A: 0 favours high rates, 1 low ones.",
        metavar="A",
        least=0,
        most=1,
    )
    rescale_fine: float = option(
        0.9,
        "Share of the crops reduced in size where they are coded at quality 1; it is 0.4 at "
        "quality 0. Pictures stored as JPEG have a floor of noise that a reduction lowers.",
        metavar="SHARE",
        least=0,
        most=1,
    )
    reach: float = option(
        2.2, "The largest factor of a reduction.", metavar="FACTOR", least=1, most=16
    )
    val_pictures: int = option(
        24, "Measure on so many pictures of --val, spread evenly.", metavar="N", least=1, free=True
    )
    val_crop: int = option(
        512,
        "Measure on the centre of each, so many pixels wide and high; 0: the whole picture.",
        metavar="SIDE",
        least=0,
        free=True,
    )
    scale_steps: int = option(
        0,
        "Steps at the end in which the scale path alone learns, from symbols as they are coded.",
        metavar="N",
        least=0,
        free=True,
    )
    export_pictures: int = option(
        256,
        "Crops that the probability tables of weights are counted on.",
        metavar="N",
        least=1,
        most=65536,
        free=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.one_quality is not None and self.one_quality > 1:
            raise VrcodecError(f"only-quality: {self.only_quality:g} must be at most 1")

    @property
    def one_quality(self) -> float | None:
        """The only quality that is trained for, None for all."""
        return None if self.only_quality == DISABLED else self.only_quality


_KINDS = {int: "whole number", float: "number", str: "text", bool: "yes or no"}


def about_option(field: dataclasses.Field[Any]) -> About:
    """What is known of an option."""
    about: About = field.metadata["about"]
    return about


def flag(field: dataclasses.Field[Any]) -> str:
    """An option's name on the command line."""
    return about_option(field).flag or "--" + field.name.replace("_", "-")


def label(field: dataclasses.Field[Any]) -> str:
    """An option's name in messages."""
    return flag(field).removeprefix("--")


def _said(field: dataclasses.Field[Any], value: Any) -> str:
    none = about_option(field).none
    return none if none and value == field.default else str(value)
