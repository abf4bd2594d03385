"""Conversion of weights from and to PyTorch, matched by order, because PyTorch's names of layers are not known here.

PyTorch is not needed: anything that numpy accepts as an array is accepted.

The caller sets the options of the layer. PyTorch's ``BatchNorm`` has epsilon 1e-5 and defines momentum the other way
(0.1 there is 0.9 here). Its ``padding=p`` is ``padding=(p, p)`` here, for each axis, also for transposed convolutions,
whose ``output_padding`` is the same (0 by default). "same" is equal only for stride 1 and odd kernels: for stride 2 and
kernel 3, Keras's "same" pads (0, 1) at even lengths, PyTorch's ``padding=1`` pads (1, 1). For a file that Keras opens,
write ``ZeroPadding2D(p)`` and a convolution with "valid".
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxconv.contract import Layer, Params, as_layer
from jaxconv.errors import explain
from jaxconv.files.input_shapes import fitting_shape
from jaxconv.files.leaves import flat, nested
from jaxconv.files.torch_layout import leaf_layers, tensors
from jaxconv.files.torch_order import INPUT, SAME, Features, Order, features_after, is_spatial
from jaxconv.models.container import Container, walk

_COUNTERS = "num_batches_tracked"  # BatchNorm counts its batches in PyTorch; it has no counterpart here


def params_from_torch(layer: Layer, state: Any, *, input_shape: Any = None) -> Params:
    """Return params with the weights of a PyTorch module that has the same layers in the same order.

    Kernels are transposed from (outputs, inputs, *window) to (*window, inputs, outputs), grouped, transposed and
    depthwise ones included. PyTorch flattens channels first: the rows of the kernel of a Dense after a Flatten (or a
    Reshape to one axis), and a normalization between the two, are permuted to the order in which this layer flattens.
    The features of an Embedding, or of a Dense on the last of several axes, are last in PyTorch, too.

    Args:
        layer: the layer to make params for, with its options set; see the top of this module for padding.
        state: a ``state_dict``, or a list of arrays, in the order of the layers here (that of ``params_to_torch``).
            Entries named num_batches_tracked are left out. bfloat16 tensors keep their type.
        input_shape: of the layer, batch first; the layer's own if None. It is needed for a Flatten, and makes the check
            of shapes complete.

    Returns:
        params, each leaf in the type that ``init`` gives it.

    Raises:
        ValueError: a weight of another shape, too many or too few; a layer whose weights cannot be converted, such as
            an LSTM; a Flatten of unknown lengths, one after a layer that moves axes (Permute), or one whose features
            another layer than a Dense mixes; a Reshape of flat features that makes channels from others than PyTorch.

    >>> weight, bias = np.zeros((8, 4, 3), np.float32), np.ones(8, np.float32)  # torch.nn.Conv1d(4, 8, 3)
    >>> params = params_from_torch(jaxconv.Conv1D(8, 3), {"weight": weight, "bias": bias})
    >>> params["kernel"].shape, params["bias"].shape
    ((3, 4, 8), (8,))
    """
    layer = as_layer(layer, "params_from_torch(layer, state)")
    given = _named_arrays(state)
    remaining = iter(given)
    leaves: dict[str, Any] = {}

    def visit(place: str, one: Layer, shape: Any, order: Order) -> Params:
        own = _from_tensors(place or one.label, one, shape, order, remaining)
        leaves.update({f"{place}/{leaf}" if place else leaf: value for leaf, value in own.items()})
        return own

    _Walk(layer, visit).run(input_shape)
    if extra := [name for name, _ in remaining]:
        number = len(given) - len(extra)
        raise ValueError(f"{layer.label}: takes {number} weights; there are more: {', '.join(extra[:8])}")
    return nested(leaves)


def params_to_torch(
    layer: Layer, params: Params, *, input_shape: Any = None, names: Iterable[str] | None = None
) -> dict[str, np.ndarray]:
    """Return the weights in PyTorch's layout and order: the inverse of :func:`params_from_torch`.

    With ``names=net.state_dict()``, ``net.load_state_dict({name: torch.tensor(array) for name, array in ...}, strict=
    False)`` loads them. (torch.tensor does not accept numpy's bfloat16: cast to float32 first.)

    Args:
        layer, params: the model.
        input_shape: as in :func:`params_from_torch`.
        names: the names of the arrays, in order; num_batches_tracked among them is left out. By default
            ``conv1d.weight``, ``conv1d.bias``, ...

    Returns:
        numpy arrays by name.

    Raises:
        ValueError: as :func:`params_from_torch`; another number of names than of arrays.

    >>> params, _ = jaxconv.Dense(2).init(jax.random.key(0), (None, 3))
    >>> {name: array.shape for name, array in params_to_torch(jaxconv.Dense(2), params).items()}
    {'weight': (2, 3), 'bias': (2,)}
    """
    layer = as_layer(layer, "params_to_torch(layer, params)", params)
    leaves, arrays = flat(params), dict[str, np.ndarray]()

    def visit(place: str, one: Layer, shape: Any, order: Order) -> Params:
        prefix, own = f"{place}/" if place else "", {}
        for tensor in tensors(one):
            if f"{prefix}{tensor.leaf}" not in leaves:
                raise ValueError(f"{place or one.label}: params have no {tensor.leaf}")
            own[tensor.leaf] = array = np.asarray(leaves[f"{prefix}{tensor.leaf}"])
            array = _reordered(array, None if order is None else tuple(np.argsort(order)), tensor.features)
            with explain(place or one.label):
                arrays[f"{prefix.replace('/', '.')}{tensor.name}"] = tensor.to_torch(array)
        return own

    _Walk(layer, visit).run(input_shape)
    if names is None:
        return arrays
    wanted = [name for name in names if not name.endswith(_COUNTERS)]
    if len(wanted) != len(arrays):
        raise ValueError(f"{layer.label}: has {len(arrays)} arrays ({', '.join(arrays)}); names has {len(wanted)}")
    return dict(zip(wanted, arrays.values(), strict=True))


# -- one layer's weights


def _named_arrays(state: Any) -> list[tuple[str, Any]]:
    if isinstance(state, Mapping):
        return [(name, value) for name, value in state.items() if not name.endswith(_COUNTERS)]
    if hasattr(state, "shape") or isinstance(state, str) or not isinstance(state, Iterable):
        raise TypeError(f"state is of type {type(state).__name__}; give a state_dict, or a list of arrays")
    return [(f"array {index}", value) for index, value in enumerate(state)]


def _as_numpy(value: Any) -> np.ndarray:
    """Return a tensor as a numpy array; PyTorch cannot convert bfloat16, but float32 represents it exactly."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            return value.float().numpy().astype(jnp.bfloat16)
    return np.asarray(value)


def _reordered(array: np.ndarray, order: Order, axis: int | None) -> np.ndarray:
    """Return an array with its features along ``axis`` in another order, if it has as many."""
    return array if order is None or axis is None or array.shape[axis] != len(order) else np.take(array, order, axis)


def _from_tensors(where: str, layer: Layer, shape: Any, order: Order, remaining: Iterator) -> Params:
    """Return a layer's params from the next tensors."""
    own: Params = {}
    sources: dict[str, str] = {}
    for tensor in tensors(layer):
        name, value = next(remaining, (None, None))
        if name is None:
            raise ValueError(f"{where}: no weight is left for its {tensor.leaf}")
        array = _as_numpy(value)
        sources[tensor.leaf] = f"{name} of shape {array.shape}"
        try:
            array = tensor.from_torch(array, layer)
        except ValueError as error:
            raise ValueError(f"{where}: {tensor.leaf} cannot be made from {sources[tensor.leaf]}: {error}") from None
        own[tensor.leaf] = jnp.asarray(_reordered(array, order, tensor.features).astype(layer.policy.variable))
    if own and shape is None and fitting_shape(layer, own) is None:
        raise ValueError(f"{where}: {', '.join(sources.values())} are not weights of {layer}")
    for leaf, weight in layer.weights(shape).items() if own and shape is not None else ():
        if own[leaf].shape != weight.shape:
            raise ValueError(
                f"{where}: {leaf} has to be of shape {weight.shape} for input of shape {shape}; "
                f"{sources[leaf]} becomes {own[leaf].shape}"
            )
    return own


# -- all layers in order


Visit = Callable[[str, Layer, Any, Order], Params]


class _Walk:
    """Calls ``visit(place, layer, shape, order)``, which returns the layer's params, once for each layer, in order."""

    def __init__(self, layer: Layer, visit: Visit):
        self.layer, self.visit = layer, visit
        self.seen: set[str] = set()

    def run(self, input_shape: Any) -> None:
        layer = self.layer
        shape = layer.known_input_shape if input_shape is None else layer.read_shape(input_shape)
        shapes = [shape]
        if isinstance(layer, Container):
            shapes = [None] * layer.graph.input_count if shape is None else layer.flat_inputs(shape)
        formats = [one.data_format for one in leaf_layers(layer) if is_spatial(one)]
        layout = SAME if formats[:1] == ["channels_first"] else INPUT
        walk(layer, [Features(one, layout) for one in shapes], self._layer)

    def _layer(self, place: str, layer: Layer, given: list[Features], structure: Any) -> list[Features]:
        shapes = [one.shape for one in given]
        shape = None if None in shapes else structure.unflatten(shapes)
        if place not in self.seen:
            self.seen.add(place)
            own = self.visit(place, layer, shape, given[0].order)
            shape = fitting_shape(layer, own) if shape is None and own else shape
        mixes = any(tensor.features == 0 and tensor.leaf == "kernel" for tensor in tensors(layer))
        return features_after(place or layer.label, layer, given, shape, mixes)
