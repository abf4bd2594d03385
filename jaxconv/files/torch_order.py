"""Positions of features in PyTorch, which has the channels first and flattens them first. PyTorch is not needed."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxconv.contract import Layer
from jaxconv.files.input_shapes import output_shape_of

Order = tuple[int, ...] | None

# Layouts: how the axes of an array here are related to those of PyTorch's array
INPUT = "input"  # as FIRST, unless a layer shows that the last axis is PyTorch's last axis, too
FIRST = "first"  # the last axis here is the first one (after the batch) in PyTorch
SAME = "same"  # the same order of axes
SPLIT = "split"  # as SAME; made from flat features, which PyTorch would split with the channels first
PERMUTED = "permuted"  # unknown; each axis is still one axis
REGROUPED = "regrouped"  # unknown; the last axis is not the channels of PyTorch


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """An array's shape, or None if it is unknown; its layout; the position in PyTorch of each of its flat features.

    order: None if the positions are the same, and for arrays with more axes than (batch, features).
    """

    shape: Any = None
    layout: str = SAME
    order: Order = None


def is_spatial(layer: Any) -> bool:
    """Return whether a layer works on axes of space or time, and so has channels on a definite axis."""
    return hasattr(layer, "data_format") and not _is(layer, "Flatten", "Rescaling")


def _is(layer: Layer, *names: str) -> bool:
    """Return whether a layer is of one of these classes, or of a subclass."""
    return any(one.__name__ in names for one in type(layer).__mro__)


def features_after(where: str, layer: Any, given: Sequence[Features], shape: Any, mixes: bool) -> list[Features]:
    """Return the outputs of a layer.

    Args:
        given: the inputs. shape: theirs, in the structure that the layer takes; None if it is unknown.
        mixes: whether each output depends on all features, through a kernel whose rows were reordered.

    Raises:
        ValueError: the layer mixes or moves features whose order in PyTorch differs or is unknown.
    """
    before = given[0].shape if shape is None or len(given) > 1 else shape
    after = None if shape is None else output_shape_of(layer, shape)
    form = layer.output_structure
    shapes = [None] * form.num_leaves if after is None else form.flatten_up_to(after)
    layout, order = _joined(where, given)
    if _flattens(layer, before, shapes[0]):
        layout, order = SAME, _flattened_order(where, layer, layout, before) if before is None or before[2:] else order
    elif order is not None:
        if not mixes and shapes[0] != before:
            raise ValueError(f"{where}: moves features that PyTorch flattens in another order; put a Dense before")
        order = None if mixes else order
    else:
        layout = _layout_after(where, layer, layout, before, shapes[0])
    return [Features(one, SAME if one is not None and len(one) < 3 else layout, order) for one in shapes]


def _joined(where: str, given: Sequence[Features]) -> tuple[str, Order]:
    """Return the common layout and order of the inputs of a layer."""
    if len({one.order for one in given}) > 1:
        raise ValueError(f"{where}: joins features that were flattened in different orders; put a Dense before it")
    known = {one.layout for one in given} - {INPUT} or {INPUT}
    return known.pop() if len(known) == 1 else PERMUTED, given[0].order


def _flattens(layer: Any, before: Any, after: Any) -> bool:
    """Return whether a layer puts all features on one axis."""
    if _is(layer, "Flatten") or (_is(layer, "Reshape") and len(layer.target_shape) == 1):
        return True
    return bool(before and after) and len(after) == 2 < len(before) and after[1] == _product(before[1:]) != before[-1]


def _product(sizes: Sequence[int | None]) -> int | None:
    return None if None in sizes else math.prod(size or 0 for size in sizes)


def _flattened_order(where: str, layer: Any, layout: str, shape: Any) -> Order:
    """Return the position of each feature in PyTorch after a layer that flattens."""
    moves = _is(layer, "Flatten") and layer.data_format == "channels_first"  # it puts the first axis last
    if layout in (PERMUTED, REGROUPED):
        raise ValueError(
            f"{where}: PyTorch may flatten its input in another order, because a layer before it moves axes; "
            "use one Flatten for both, which is put in PyTorch's order"
        )
    if layout in (SAME, SPLIT) and not moves:
        return None
    if shape is None or None in shape[1:]:
        raise ValueError(
            f"{where}: flattens input of shape {shape}, and PyTorch flattens it in another order; "
            "give input_shape with all lengths"
        )
    positions = np.arange(math.prod(shape[1:]))
    if layout in (SAME, SPLIT):
        positions = positions.reshape(shape[1:])
    else:
        positions = np.moveaxis(positions.reshape(shape[-1], *shape[1:-1]), 0, -1)
    order = (np.moveaxis(positions, 0, -1) if moves else positions).ravel()
    return None if (order == np.arange(len(order))).all() else tuple(order.tolist())


def _layout_after(where: str, layer: Any, layout: str, before: Any, after: Any) -> str:
    """Return the layout of the output of a layer that does not flatten."""
    channels_last = is_spatial(layer) and layer.data_format != "channels_first"
    if (channels_last and layout == SPLIT) or ((channels_last or _is(layer, "Dense")) and layout == REGROUPED):
        raise ValueError(
            f"{where}: its channels are other features than in PyTorch, which has the channels first when a Reshape "
            "before it divides an axis; use the Reshape of PyTorch and a Permute that puts the channels last"
        )
    if is_spatial(layer):
        return FIRST if channels_last else SAME
    if _is(layer, "Embedding"):
        return SAME
    if _is(layer, "Dense"):
        return SAME if layout in (INPUT, SAME, SPLIT) else PERMUTED
    if _is(layer, "Permute"):
        return layout if layout in (SAME, REGROUPED) else PERMUTED
    if _is(layer, "RepeatVector"):
        return PERMUTED
    if _is(layer, "Reshape", "Function", "GetItem") or layer.children:
        return _layout_reshaped(layout, before, after)
    return layout


def _layout_reshaped(layout: str, before: Any, after: Any) -> str:
    if before is None or after is None:
        return REGROUPED
    if len(before) == 2:
        return INPUT if after[-1] == 1 or _product(after[1:-1]) == 1 else SPLIT
    return layout if layout in (SAME, SPLIT) or before[-1] == after[-1] else REGROUPED
