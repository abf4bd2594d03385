"""Convolutions in PyTorch with any padding, and arrays as tensors. Knows sizes, and no layer or case."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Function = Callable[..., Tensor]


def tensor(array: np.ndarray) -> Tensor:
    """Give an array as a tensor of its own memory."""
    return torch.from_numpy(np.array(array, order="C"))


def flat(pairs: Any) -> list[int]:
    """Give pairs as ``functional.pad`` takes them: those of the last axis first."""
    return [size for pair in reversed(pairs) for size in pair]


def sliding(weight: Tensor, bias: Any, pads: Any, strides: Any, dilation: Any, groups: int) -> Function:
    """Give a convolution that puts ``pads``, (before, after) for each axis, around its input."""
    convolve = getattr(functional, f"conv{len(pads)}d")
    if all(before == after for before, after in pads):
        alike = tuple(before for before, _ in pads)
        return lambda x: convolve(x, weight, bias, strides, alike, dilation, groups)
    around = flat(pads)
    return lambda x: convolve(functional.pad(x, around), weight, bias, strides, 0, dilation, groups)


def scattering(
    weight: Tensor, bias: Any, cuts: Any, lengths: Sequence[int], strides: Any, dilation: Any, groups: int
) -> Function:
    """Give a transposed convolution that cuts (before, after) off each axis, so that ``lengths`` are left.

    A negative ``after`` appends zeros.
    """
    convolve = getattr(functional, f"conv_transpose{len(cuts)}d")
    both = tuple(max(0, min(pair)) for pair in cuts)
    longer = tuple(max(0, -after) for _, after in cuts)
    left = [before - cut for (before, _), cut in zip(cuts, both, strict=True)]
    if all(start == 0 and after <= cut for start, (_, after), cut in zip(left, cuts, both, strict=True)):
        return lambda x: convolve(x, weight, bias, strides, both, longer, groups, dilation)
    wanted = (..., *(slice(start, start + length) for start, length in zip(left, lengths, strict=True)))
    return lambda x: convolve(x, weight, bias, strides, both, longer, groups, dilation)[wanted]
