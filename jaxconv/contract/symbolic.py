"""Symbolic tensors: ``Input``, and the node of a layer called on one, from which a graph is traced.

No list of tensors or calls exists: a tensor refers to the call that it comes from.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.contract.registered import layers
from jaxconv.contract.shapes import Shape, as_shape
from jaxconv.errors import explain


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One call of one layer. Two calls are never equal, even of equal layers on equal inputs.

    Args:
        layer: the layer that was called.
        inputs: the symbolic tensors that it was called on, in JAX's order of the leaves.
        structure: their JAX tree structure: a single tensor, a list or a dict.
    """

    layer: Any
    inputs: tuple["SymbolicTensor", ...]
    structure: Any

    def outputs(self) -> Any:
        """Return the output tensors of the call, in the layer's structure. Raises ValueError for invalid inputs."""
        form = self.layer.output_structure
        shapes = self.structure.unflatten(tensor.shape for tensor in self.inputs)
        outputs = form.flatten_up_to(self.layer.output_shape(self.layer.read_shape(shapes)))
        return form.unflatten(SymbolicTensor(shape, self, index) for index, shape in enumerate(outputs))


@dataclasses.dataclass(frozen=True, eq=False)
class SymbolicTensor:
    """A placeholder for an array in a graph: its shape, batch first, and its origin.

    Two are equal if they are the same output of the same call, or the same ``Input`` object.

    ``+ - * /`` with tensors of the same rank and with numbers, and slices, call layers: Add, Subtract, Multiply,
    Divide, Rescaling, Reciprocal and GetItem.

    Args:
        shape: with None for unknown sizes.
        node: the call whose output it is; None for an ``Input``.
        index: the index among the outputs of that call.
        dtype: of an ``Input``: the type to which the array is cast first; None leaves it to the layers.
        name: of an ``Input``.

    >>> jaxconv.Flatten()(Input((4, 3)))
    <SymbolicTensor of shape (None, 12) from Flatten>
    """

    shape: Shape
    node: Node | None = None
    index: int = 0
    dtype: str | None = None
    name: str | None = None

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, SymbolicTensor) and self.node is other.node and self.index == other.index
        return self is other or (same and self.node is not None)

    def __hash__(self) -> int:
        return hash((id(self.node), self.index)) if self.node is not None else object.__hash__(self)

    def __repr__(self) -> str:
        origin = self.node.layer.label if self.node else f"Input {self.name!r}" if self.name else "Input"
        return f"<SymbolicTensor of shape {self.shape} from {origin}>"

    __array_ufunc__ = None  # a numpy array on the left leaves the operation to the methods below
    __iter__ = None

    def _not_an_array(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"{self} has no values before apply_fn is called; use layers, such as Activation or one of your own, "
            "instead of functions of arrays and conditions"
        )

    __array__ = __bool__ = __float__ = __int__ = _not_an_array
    __jax_array__ = property(_not_an_array)  # JAX checks whether it exists, and does not call it

    def __add__(self, other: Any) -> Any:
        return _combine("Add", self, other, lambda c: (1.0, c))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return _combine("Subtract", self, other, lambda c: (1.0, -c))

    def __rsub__(self, other: Any) -> Any:
        return _combine("Subtract", self, other, lambda c: (-1.0, c))

    def __mul__(self, other: Any) -> Any:
        return _combine("Multiply", self, other, lambda c: (c, 0.0))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return _combine("Divide", self, other, lambda c: (1 / c, 0.0))

    def __rtruediv__(self, other: Any) -> Any:
        if np.ndim(other) == 0 and np.asarray(other).dtype.kind in "iuf":
            return layers["Reciprocal"](other)(self)
        return layers["Reciprocal"]()(self) * other

    def __neg__(self) -> Any:
        return -1.0 * self

    def __getitem__(self, key: Any) -> Any:
        return layers["GetItem"](key)(self)


def _combine(name: str, x: SymbolicTensor, y: Any, affine: Any) -> Any:
    """Call the layer of an operator: a merging layer for two tensors, a Rescaling for a tensor and numbers."""
    if isinstance(y, SymbolicTensor):
        if len(x.shape) != len(y.shape):
            what = f"an operator takes tensors of one rank; got shapes {x.shape} and {y.shape}"
            raise ValueError(f"{name}: {what}; add axes with x[:, None], or call {name}()([x, y])")
        return layers[name]()([x, y])
    if np.asarray(y).dtype.kind not in "iuf":
        return NotImplemented
    with np.errstate(divide="ignore"):
        scale, offset = affine(np.asarray(y, np.float64))
    return layers["Rescaling"](scale, offset, data_format="channels_last")(x)


def Input(
    shape: Any = None, batch_size: int | None = None, dtype: Any = None, *, batch_shape: Any = None, name: Any = None
) -> SymbolicTensor:
    """Start a graph: return a symbolic tensor to call layers on.

    Like ``keras.Input``, without ``sparse``, ``ragged``, ``tensor`` and ``optional``, which do not apply to JAX arrays.

    Args:
        shape: without batch; unknown lengths are None.
        batch_size: the batch size, if it is fixed.
        dtype: the type to which the input is cast. "float32" and None leave it to the layers, which cast to the type of
            their policy; with "int32" floats are an error.
        batch_shape: the shape with batch, in place of ``shape`` and ``batch_size``.
        name: for messages and configs; chosen in the model if None.

    Raises:
        ValueError: neither ``shape`` nor ``batch_shape``, or both; a name with "/".
        TypeError: a dtype that JAX does not have.

    >>> x = Input((128, 16))
    >>> jaxconv.Conv1D(8, 3, padding="causal")(x).shape
    (None, 128, 8)
    """
    if (shape is None) == (batch_shape is None):
        raise ValueError(f"Input: got shape={shape} and batch_shape={batch_shape}; give one of them, like (128, 16)")
    if batch_shape is not None and batch_size is not None:
        raise ValueError(f"Input: batch_shape={batch_shape} includes the batch size; leave out batch_size={batch_size}")
    if name is not None and (not isinstance(name, str) or not name or "/" in name):
        raise ValueError(f"Input: name={name!r} is not valid; give a non-empty string without '/'")
    full = as_shape(batch_shape, "Input") if shape is None else (batch_size, *as_shape(shape, "Input"))
    full = as_shape(full, "Input: batch_size")
    with explain("Input: dtype"):
        kind = None if dtype is None else jnp.dtype(dtype).name
    return SymbolicTensor(full, dtype=None if kind == "float32" else kind, name=name)


def is_symbolic(inputs: Any) -> bool:
    """Return whether ``inputs`` contains a symbolic tensor."""
    return any(isinstance(leaf, SymbolicTensor) for leaf in jax.tree.leaves(inputs))


def connect(layer: Any, inputs: Any) -> Any:
    """Call a layer on symbolic tensors (one, or a list or dict): return its output tensor, or the structure of them.

    Raises ValueError for shapes that the layer does not accept, TypeError for arrays among the symbolic tensors.
    """
    inputs = as_lists(inputs)
    leaves, structure = jax.tree.flatten(inputs)
    for leaf in leaves:
        if not isinstance(leaf, SymbolicTensor):
            what = f"called on symbolic tensors and on a {type(leaf).__name__}"
            raise TypeError(f"{layer.label}: {what}; give only symbolic tensors; arrays are arguments of apply_fn")
    with explain(f"{layer.label}, called on {inputs}"):
        return Node(layer, tuple(leaves), structure).outputs()


def as_lists(structure: Any) -> Any:
    """Return a structure with lists in place of tuples, which configs do not have.

    Args:
        structure: a value, or nested dicts, lists and tuples of values.

    >>> as_lists((1, {"a": (2, 3)}))
    [1, {'a': [2, 3]}]
    """
    if isinstance(structure, dict):
        return {key: as_lists(value) for key, value in structure.items()}
    return [as_lists(value) for value in structure] if isinstance(structure, list | tuple) else structure
