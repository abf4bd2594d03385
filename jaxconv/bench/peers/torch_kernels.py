"""Convolutions in PyTorch with any padding, and arrays as tensors. Independent of layers and cases."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Function = Callable[..., Tensor]


def tensor(array: np.ndarray) -> Tensor:
    """Copy an array to a tensor."""
    return torch.from_numpy(np.array(array, order="C"))


def flat_pads(pairs: Any) -> list[int]:
    """Convert pads to the form of ``functional.pad``: the last axis first."""
    return [size for pair in reversed(pairs) for size in pair]


def convolution(weight: Tensor, bias: Any, pads: Any, strides: Any, dilation: Any, groups: int) -> Function:
    """Return a convolution with ``pads``, (before, after) for each axis."""
    convolve = getattr(functional, f"conv{len(pads)}d")
    if all(before == after for before, after in pads):
        symmetric = tuple(before for before, _ in pads)
        return lambda x: convolve(x, weight, bias, strides, symmetric, dilation, groups)
    flat = flat_pads(pads)
    return lambda x: convolve(functional.pad(x, flat), weight, bias, strides, 0, dilation, groups)


def transposed_convolution(
    weight: Tensor, bias: Any, crops: Any, lengths: Sequence[int], strides: Any, dilation: Any, groups: int
) -> Function:
    """Return a transposed convolution that crops (before, after) on each axis to ``lengths``.

    A negative ``after`` appends zeros.
    """
    convolve = getattr(functional, f"conv_transpose{len(crops)}d")
    padding = tuple(max(0, min(pair)) for pair in crops)
    appended = tuple(max(0, -after) for _, after in crops)
    starts = [before - pad for (before, _), pad in zip(crops, padding, strict=True)]
    if all(start == 0 and after <= pad for start, (_, after), pad in zip(starts, crops, padding, strict=True)):
        return lambda x: convolve(x, weight, bias, strides, padding, appended, groups, dilation)
    cropped = (..., *(slice(start, start + length) for start, length in zip(starts, lengths, strict=True)))
    return lambda x: convolve(x, weight, bias, strides, padding, appended, groups, dilation)[cropped]
