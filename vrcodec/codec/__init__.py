"""Pictures to bytes and back. `vrcodec.codec.Codec` is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vrcodec.codec.codec import Codec

__all__ = ["Codec"]


def __getattr__(name: str) -> Any:
    if name == "Codec":
        from vrcodec.codec.codec import Codec

        return Codec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
