"""Faster gradients of what training on a CPU spends most of its time on.

Convolutions of 1x1 kernels are matrix products; their gradients, which torch computes as those of a
convolution, take up to a third less as products. FiLM's multiply-add has a gradient without torch's
products by one. And what begins in another memory layout than the convolutions' (channels-last)
makes every operation after it walk through memory in strides. Inside of `FastGradients` all that is
set right, with the same results up to rounding; nothing of the model needs to know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class FastGradients(TorchFunctionMode):
    """While it is entered, what is called in forward passes is made faster as said above.

    On CPUs in float32 only: elsewhere calls go their usual way.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func is F.conv2d and _is_pointwise(*args, **named):
            return _Pointwise.apply(*_conv_arguments(*args, **named))
        if func is torch.addcmul and not named and _is_film(*args):
            return _Film.apply(*args)
        if func is torch.where and len(args) == 3 and args[0].ndim == 4:
            args = (args[0].contiguous(memory_format=torch.channels_last), *args[1:])
        made = func(*args, **named)
        if func is torch.Tensor.new_zeros and made.ndim == 4:
            return made.contiguous(memory_format=torch.channels_last)
        return made


def _is_pointwise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    return (
        weight.shape[2:] == (1, 1)
        and groups == 1
        and _ones(stride)
        and padding in (0, (0, 0), [0, 0])
        and weight.requires_grad
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def _ones(value: Any) -> bool:
    return value in (1, (1, 1), [1, 1])


def _conv_arguments(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, **__: Any
) -> tuple[Tensor, Tensor, Tensor | None]:
    return x, weight, bias


class _Pointwise(torch.autograd.Function):
    """x (B, I, h, w), weight (O, I, 1, 1), bias (O,) -> (B, O, h, w), all channels-last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return F.conv2d(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = _rows(grad)
        matrix = weight.flatten(1)
        to_x = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            count, _, height, width = x.shape
            to_x = (rows @ matrix).view(count, height, width, -1).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            to_weight = (rows.T @ _rows(x)).view_as(weight)
        if ctx.has_bias:
            to_bias = rows.sum(0)
        return to_x, to_weight, to_bias


def _rows(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B h w, C): a view, if x is channels-last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _is_film(shift: Any, x: Any, gain: Any) -> bool:
    return (
        isinstance(x, Tensor)
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.ndim == 4
        and x.requires_grad
        and shift.shape == gain.shape == (*x.shape[:2], 1, 1)
        and min(x.shape[2:]) > 1
    )


class _Film(torch.autograd.Function):
    """shift + x gain, of x (B, C, h, w) and (B, C, 1, 1) twice."""

    @staticmethod
    def forward(ctx: Any, shift: Tensor, x: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(x, gain)
        return torch.addcmul(shift, x, gain)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, gain = ctx.saved_tensors
        to_shift = grad.sum((2, 3), keepdim=True)
        to_gain = (grad * x).sum((2, 3), keepdim=True)
        return to_shift, grad * gain, to_gain
