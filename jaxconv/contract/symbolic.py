"""Arrays that are not there yet: ``Input``, and the record of a layer called on one, from which a graph is read.

Knows layers by three methods alone. There is no list of tensors or calls anywhere: a record holds what it came from,
nothing holds it.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv.contract.shapes import Shape, as_shape
from jaxconv.errors import explain


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One call of one layer. Each call is itself alone, however equal the layers and inputs are.

    Args:
        layer: the layer that was called.
        inputs: the symbolic tensors that it was called on, in JAX's order of the leaves.
        structure: how they hang together: one, a list, a dict.
    """

    layer: Any
    inputs: tuple["SymbolicTensor", ...]
    structure: Any

    def outputs(self) -> Any:
        """Return the symbolic tensors that the layer gives here, in its structure. Raises ValueError if it cannot."""
        form = self.layer.output_structure
        shapes = self.structure.unflatten(tensor.shape for tensor in self.inputs)
        given = form.flatten_up_to(self.layer.output_shape(self.layer.read_shape(shapes)))
        return form.unflatten(SymbolicTensor(shape, self, index) for index, shape in enumerate(given))


@dataclasses.dataclass(frozen=True, eq=False)
class SymbolicTensor:
    """Stands for an array in a graph: its shape, batch first, and where it comes from.

    Two are equal where they are the same output of the same call, or the same ``Input`` object.

    Args:
        shape: with None for unknown sizes.
        node: the call that gives it; None for an ``Input``.
        index: which of the outputs of that call it is.
        dtype: of an ``Input``: the type to bring the array to first; None leaves it to the layers.
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


def Input(
    shape: Any = None, batch_size: int | None = None, dtype: Any = None, *, batch_shape: Any = None, name: Any = None
) -> SymbolicTensor:
    """Start a graph: give a symbolic tensor to call layers on.

    As ``keras.Input``, without ``sparse``, ``ragged``, ``tensor`` and ``optional``, which JAX has no arrays for.

    Args:
        shape: without batch; None where a length is unknown.
        batch_size: the batch size, where it is fixed.
        dtype: the type to bring the input to. "float32", and None, leave it to the layers, which cast as their policy
            says; "int32" refuses floats.
        batch_shape: the shape with batch, in place of ``shape`` and ``batch_size``.
        name: for messages and configs; counted in the model when None.

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
        raise ValueError(f"Input: batch_shape={batch_shape} says the batch size; leave out batch_size={batch_size}")
    if name is not None and (not isinstance(name, str) or not name or "/" in name):
        raise ValueError(f"Input: name={name!r} is not legal; give a non-empty string without '/'")
    full = as_shape(batch_shape, "Input") if shape is None else (batch_size, *as_shape(shape, "Input"))
    full = as_shape(full, "Input: batch_size")
    with explain("Input: dtype"):
        kind = None if dtype is None else jnp.dtype(dtype).name
    return SymbolicTensor(full, dtype=None if kind == "float32" else kind, name=name)


def is_symbolic(inputs: Any) -> bool:
    """Tell whether there is a symbolic tensor anywhere in ``inputs``."""
    return any(isinstance(leaf, SymbolicTensor) for leaf in jax.tree.leaves(inputs))


def connect(layer: Any, inputs: Any) -> Any:
    """Call a layer on a symbolic tensor, or a list or dict of them: give its output tensor, or the structure of them.

    Raises:
        ValueError: shapes that the layer cannot take.
        TypeError: arrays among the symbolic tensors.
    """
    inputs = as_lists(inputs)
    leaves, structure = jax.tree.flatten(inputs)
    for leaf in leaves:
        if not isinstance(leaf, SymbolicTensor):
            raise TypeError(
                f"{layer.label}: called on symbolic tensors and on a {type(leaf).__name__}; "
                "give symbolic tensors alone: an array goes in by an Input, or later, into apply_fn"
            )
    with explain(f"{layer.label}, called on {inputs}"):
        return Node(layer, tuple(leaves), structure).outputs()


def as_lists(structure: Any) -> Any:
    """Return a structure with every tuple in it a list: a config knows no tuples."""
    if isinstance(structure, dict):
        return {key: as_lists(value) for key, value in structure.items()}
    return [as_lists(value) for value in structure] if isinstance(structure, list | tuple) else structure
