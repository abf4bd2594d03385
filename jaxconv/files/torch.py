"""Weights from and to PyTorch, by order: PyTorch names no layers that jaxconv could know, but both have an order.

Knows layers and graphs by their contract, and not PyTorch: anything that numpy takes for an array will do.

What is not a weight is for the caller to say in the layer. PyTorch's ``BatchNorm`` has epsilon 1e-5 and counts
momentum the other way (0.1 there is 0.9 here). Its ``padding=p`` is ``padding=(p, p)`` here, for each axis; so is that
of a transposed convolution, with ``output_padding`` as there (0, where nothing is said). "same" is the same for
stride 1 and odd kernels alone: for stride 2 and kernel 3, Keras's "same" pads (0, 1) at even lengths, PyTorch's
``padding=1`` pads (1, 1). For a file that Keras opens, write ``ZeroPadding2D(p)`` and a convolution with "valid".
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxconv.contract import Layer, Params
from jaxconv.errors import explain
from jaxconv.files.input_shapes import fitting_shape, input_shape_of, output_shape_of
from jaxconv.files.torch_layout import tensors
from jaxconv.models.container import Container

Order = tuple[int, ...] | None
_COUNTERS = "num_batches_tracked"  # BatchNorm counts its batches in PyTorch; nothing here needs it


def params_from_torch(layer: Layer, state: Any, *, input_shape: Any = None) -> Params:
    """Make params from the weights of a PyTorch module with the same layers in the same order.

    Kernels are turned from (outputs, inputs, *taps) to (*taps, inputs, outputs), grouped, transposed and depthwise ones
    included. Where a Flatten stands before a Dense, PyTorch has flattened channels first: the rows of the kernel (and
    the normalization between the two) are put in the order that this layer flattens in.

    Args:
        layer: the layer to have weights for: options are its own, see the head of this module for padding.
        state: a ``state_dict``, or a list of arrays. Its order is that of the layers here (``params_to_torch`` shows
            it); entries called num_batches_tracked are left out. bfloat16 tensors are read as such.
        input_shape: what the layer will be given, batch first; the layer's own if None. It is needed for a Flatten,
            and makes the check of the shapes complete.

    Returns:
        params, each leaf in the type that ``init`` would give it.

    Raises:
        ValueError: a weight of another shape, too many or too few; a layer with weights that PyTorch has no like of; a
            Flatten of unknown lengths, or one after which features are mixed by anything but a Dense.

    >>> weight, bias = np.zeros((8, 4, 3), np.float32), np.ones(8, np.float32)  # torch.nn.Conv1d(4, 8, 3)
    >>> params = params_from_torch(jaxconv.Conv1D(8, 3), {"weight": weight, "bias": bias})
    >>> params["kernel"].shape, params["bias"].shape
    ((3, 4, 8), (8,))
    """
    given = list(_named(state))
    taken = iter(given)
    params: Params = {}

    def visit(place: str, one: Layer, shape: Any, order: Order) -> Params:
        own = _take(place, one, shape, order, taken)
        _put(params, place, own)
        return own

    _Walk(layer, visit).run(input_shape_of(layer, input_shape))
    if left := [name for name, _ in taken]:
        number = len(given) - len(left)
        raise ValueError(f"{layer.label}: takes {number} weights; there are more: {', '.join(left[:8])}")
    return params


def params_to_torch(
    layer: Layer, params: Params, *, input_shape: Any = None, names: Iterable[str] | None = None
) -> dict[str, np.ndarray]:
    """Give the weights as PyTorch lays them out, in order: the way back from :func:`params_from_torch`.

    ``net.load_state_dict({name: torch.tensor(a) for name, a in arrays.items()}, strict=False)`` takes them, where
    ``names=net.state_dict()`` was given. (torch.tensor takes no bfloat16 from numpy: widen it before.)

    Args:
        layer, params: the model.
        input_shape: as in :func:`params_from_torch`.
        names: the names to give the arrays, in order; num_batches_tracked among them is left out. By default
            ``conv1d.weight``, ``conv1d.bias``, ...

    Returns:
        numpy arrays by name.

    Raises:
        ValueError: as :func:`params_from_torch`; names that are not as many as arrays.

    >>> params, _ = jaxconv.Dense(2).init(jax.random.key(0), (None, 3))
    >>> {name: array.shape for name, array in params_to_torch(jaxconv.Dense(2), params).items()}
    {'weight': (2, 3), 'bias': (2,)}
    """
    arrays: dict[str, np.ndarray] = {}

    def visit(place: str, one: Layer, shape: Any, order: Order) -> Params:
        own: Any = params
        for key in place.split("/") if place else ():
            own = own.get(key, {})
        for tensor in tensors(one):
            if tensor.leaf not in own:
                raise ValueError(f"{place or one.label}: params hold no {tensor.leaf}")
            array = np.asarray(own[tensor.leaf])
            if order is not None and tensor.features is not None and array.shape[tensor.features] == len(order):
                array = np.take(array, np.argsort(order), tensor.features)
            with explain(place or one.label):
                arrays[".".join([*place.split("/"), tensor.name] if place else [tensor.name])] = tensor.give(array)
        return own

    _Walk(layer, visit).run(input_shape_of(layer, input_shape))
    if names is None:
        return arrays
    wanted = [name for name in names if not name.endswith(_COUNTERS)]
    if len(wanted) != len(arrays):
        raise ValueError(f"{layer.label}: gives {len(arrays)} arrays ({', '.join(arrays)}); names has {len(wanted)}")
    return dict(zip(wanted, arrays.values(), strict=True))


# -- one layer's weights


def _named(state: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(state, Mapping):
        return [(name, value) for name, value in state.items() if not name.endswith(_COUNTERS)]
    if hasattr(state, "shape") or isinstance(state, str) or not isinstance(state, Iterable):
        raise TypeError(f"state is of type {type(state).__name__}; give a state_dict, or a list of arrays")
    return [(f"array {index}", value) for index, value in enumerate(state)]


def _array(value: Any) -> np.ndarray:
    """Give a tensor as a numpy array; numpy knows no bfloat16, float32 holds all of it."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            return value.float().numpy().astype(jnp.bfloat16)
    return np.asarray(value)


def _take(place: str, layer: Layer, shape: Any, order: Order, taken: Any) -> Params:
    """Give a layer's params from the next tensors."""
    own, where, seen = {}, place or layer.label, []
    for tensor in tensors(layer):
        name, value = next(taken, (None, None))
        if name is None:
            raise ValueError(f"{where}: there is no weight left for its {tensor.leaf}")
        array = _array(value)
        seen.append(f"{name} of shape {tuple(array.shape)}")
        try:
            array = tensor.take(array, layer)
        except ValueError as error:
            raise ValueError(f"{where}: {tensor.leaf} cannot be made from {seen[-1]}: {error}") from None
        if order is not None and tensor.features is not None and array.shape[tensor.features] == len(order):
            array = np.take(array, order, tensor.features)
        own[tensor.leaf] = jnp.asarray(array.astype(layer.policy.variable))
    if not own:
        return own
    if shape is None and fitting_shape(layer, own) is None:
        raise ValueError(f"{where}: {', '.join(seen)} are no weights of {layer}")
    wanted = {} if shape is None else layer.weights(shape)
    for (leaf, weight), told in zip(wanted.items(), seen, strict=False):
        if own[leaf].shape != weight.shape:
            raise ValueError(
                f"{where}: {leaf} has to be of shape {weight.shape} for input of shape {shape}; "
                f"{told} gives {own[leaf].shape}"
            )
    return own


def _put(params: Params, place: str, own: Params) -> None:
    here = params
    for key in place.split("/") if place and own else ():
        here = here.setdefault(key, {})
    here.update(own)


# -- the way through the layers


@dataclasses.dataclass(frozen=True, eq=False)
class _Value:
    """What is known of an array on its way: its shape, and where PyTorch keeps each of its features, if elsewhere."""

    shape: Any = None
    order: Order = None


Visit = Callable[[str, Layer, Any, Order], Params]


class _Walk:
    """Go through all layers in their order; call ``visit(place, layer, shape, order)`` once for each: its params."""

    def __init__(self, layer: Layer, visit: Visit):
        self.layer, self.visit = layer, visit
        self.seen: set[str] = set()
        formats = [one.data_format for one in _inside(layer) if hasattr(one, "data_format") and not _flattens(one)]
        self.first = bool(formats) and formats[0] == "channels_first"

    def run(self, shape: Any) -> None:
        count = self.layer.graph.input_count if isinstance(self.layer, Container) else 1
        shapes = [None] * count if shape is None else [shape]
        if shape is not None and isinstance(self.layer, Container):
            shapes = self.layer.flat_inputs(shape)
        if isinstance(self.layer, Container):
            self._container("", self.layer, [_Value(one) for one in shapes])
        else:
            self._leaf("", self.layer, [_Value(one) for one in shapes], None)

    def _container(self, place: str, layer: Container, values: list[_Value]) -> list[_Value]:
        values, children = list(values), layer.children
        for name, takes, structure in layer.graph.calls:
            child, path = children[name], f"{place}/{name}" if place else name
            given = structure.unflatten(values[index] for index in takes)
            if isinstance(child, Container):
                values += self._container(path, child, child.flat_inputs(given))
            else:
                values += self._leaf(path, child, [values[index] for index in takes], structure)
        return [values[index] for index in layer.graph.outputs]

    def _leaf(self, place: str, layer: Layer, given: list[_Value], structure: Any) -> list[_Value]:
        where, known = place or layer.label, all(value.shape is not None for value in given)
        shapes = [value.shape for value in given]
        shape = None if not known else shapes[0] if structure is None else structure.unflatten(shapes)
        order = given[0].order
        if len({value.order for value in given}) > 1:
            raise ValueError(f"{where}: joins features that were flattened in different orders; put a Dense before it")
        if place not in self.seen:
            self.seen.add(place)
            own = self.visit(place, layer, shape, order)
            shape = fitting_shape(layer, own) if shape is None and own else shape
        out = None if shape is None else output_shape_of(layer, shape)
        if _flattens(layer):
            order = self._flattened(where, layer, shape)
        elif order is not None:
            consumed = any(tensor.features == 0 and tensor.leaf == "kernel" for tensor in tensors(layer))
            if not consumed and out != shapes[0]:
                raise ValueError(f"{where}: moves features that PyTorch flattens in another order; put a Dense before")
            order = None if consumed else order
        if out is None:
            return [_Value(None, order)]
        return [_Value(one, order) for one in layer.output_structure.flatten_up_to(out)]

    def _flattened(self, where: str, layer: Any, shape: Any) -> Order:
        """Give, of each feature after a Flatten, its place in PyTorch's, which has the channels first."""
        if self.first and layer.data_format != "channels_first":
            return None  # as they lie, which is PyTorch's order
        if shape is None or None in shape[1:]:
            raise ValueError(
                f"{where}: flattens input of shape {shape}, and PyTorch flattens it in another order; "
                "give input_shape with all lengths"
            )
        sizes = shape[1:] if self.first else (shape[-1], *shape[1:-1])
        order = np.moveaxis(np.arange(math.prod(sizes)).reshape(sizes), 0, -1).ravel()
        return None if (order == np.arange(len(order))).all() else tuple(order.tolist())


def _flattens(layer: Layer) -> bool:
    return type(layer).__name__ == "Flatten"


def _inside(layer: Layer) -> Sequence[Any]:
    """List the layers inside, or the layer itself."""
    return [one for child in layer.children.values() for one in _inside(child)] if layer.children else [layer]
