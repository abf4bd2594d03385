"""Model: any graph of layers, with several inputs and outputs and shared layers, as one layer."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np

from jaxconv.contract import Effects, Layer, Params, SymbolicTensor, as_shape, layers, register, shape_of
from jaxconv.contract.shapes import as_array
from jaxconv.errors import explain
from jaxconv.models import functional
from jaxconv.models.container import Container, Graph
from jaxconv.models.tracing import Source, calls_between, trace
from jaxconv.registry import nearest


@register(layers, "Functional")
class Model(Container):
    """Compute outputs from inputs through a graph of layers, which is built by calling layers on an ``Input``.

    This is Keras's functional API. A layer object that is called twice is shared: it has one set of params. Two layer
    objects are two layers even if they are equal; so ``[Conv1D(8, 3)] * 2`` is one layer, called twice. Layers are
    named as in :class:`Sequential`, counted in the order in which Keras runs them: those farthest from the outputs
    first. ``apply_fn(params, x)`` takes and returns the structures of ``inputs`` and ``outputs``: one array, a list or
    a dict (a tuple is treated as a list, and a list of one item as its item). Models can be nested like other layers.

    Unlike Keras: an input that no output depends on is an error; inputs are not reshaped to the rank of their
    ``Input``; models of the same layers share weights only if they are called with the same params.

    Args:
        inputs: an ``Input``, or a list or dict of them; or outputs of layers, to start in the middle of a graph.
        outputs: outputs of layers that depend on the inputs, in the structure to return.

    Shapes: the shapes of the inputs -> the shapes of the outputs, in their structures.

    Params: the params of each layer, under its name.

    Raises:
        ValueError: an output that depends on an Input that is not in ``inputs``; an input that no output depends on;
            two layers with the same name; at a call, inputs that do not fit in number, names or shape.
        TypeError: an input or output that is not a symbolic tensor.

    >>> x = jaxconv.Input((128, 2), name="signal")
    >>> h = layers["Conv1D"](4, 3, padding="same", activation="relu")(x)
    >>> model = Model(x, layers["Add"]()([h, layers["Conv1D"](4, 1)(x)]))
    >>> params, apply_fn = model.init(jax.random.key(0))
    >>> sorted(params), apply_fn(params, jnp.ones((1, 128, 2))).shape
    (['conv1d', 'conv1d_1'], (1, 128, 4))
    """

    keras_module: ClassVar[str] = "keras"
    counted_as: ClassVar[str] = "functional"  # Keras's own name for such a model

    inputs: Any = dataclasses.field(compare=False)
    outputs: Any = dataclasses.field(compare=False)
    graph: Any = dataclasses.field(init=False)  # type: ignore[misc]  # models are equal if their graphs are equal
    sources: tuple[Source, ...] = dataclasses.field(init=False)
    structure: Any = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input_shape is not None:
            raise ValueError(f"Model: input_shape={self.input_shape} is not an option; give the shape to Input(shape)")
        self._set(**trace(self.inputs, self.outputs, self._named)._asdict())
        self._set_tensors()

    def _named(self, layer: Layer, name: str) -> Layer:
        """Return a layer as a part of this model, under its name."""
        return self.adopt(layer if layer.name == name else dataclasses.replace(layer, name=name))

    def _set_tensors(self) -> None:
        """Set ``inputs`` and ``outputs`` to symbolic tensors of the adopted layers."""
        inputs, outputs = self._tensors(self.graph)
        self._set(inputs=inputs, outputs=outputs)

    def _tensors(self, graph: Graph) -> tuple[Any, Any]:
        """Return the symbolic inputs and outputs of a graph."""
        children = dict(graph.children)
        values = [SymbolicTensor(s.shape, dtype=s.dtype, name=s.name) for s in self.sources]
        inputs = self.structure.unflatten(values)
        for _, call, tensors in graph.steps(values):
            child = children[call.name]
            values += child.output_structure.flatten_up_to(child(tensors))
        return inputs, graph.result(values)

    def __getstate__(self) -> dict[str, Any]:
        # the tensors are rebuilt after unpickling: a chain of a thousand nodes is too deep for pickle
        return {key: value for key, value in self.__dict__.items() if key not in ("inputs", "outputs")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._set(**state)
        self._set_tensors()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Return the layers, in the order of their names."""
        return tuple(layer for _, layer in self.graph.children)

    def tensor(self, name: str, call: int = 0) -> Any:
        """Return the output tensor of a layer, to call more layers on it or to use it as an output of another model.

        >>> x = jaxconv.Input((8, 2))
        >>> model = Model(x, layers["Flatten"]()(layers["Conv1D"](4, 3, name="features")(x)))
        >>> Model(model.inputs, model.tensor("features")).output_shape((None, 8, 2))
        (None, 6, 4)
        """
        if name not in self.names:
            raise ValueError(f"{self.label}: no layer has the name {name!r}; {nearest(name, self.names)}")
        nodes = [node for node in calls_between(self.inputs, self.outputs) if node.layer.name == name]
        if not 0 <= call < len(nodes):
            raise ValueError(f"{self.label}: {name} is called {len(nodes)} time(s); call={call} counts from 0")
        return nodes[call].outputs()

    def until(self, name: str, call: int = 0) -> Self:
        """Return the model from the same inputs to the output of a layer. It also takes the params of the whole model.

        Raises:
            ValueError: an unknown name; an input that this layer does not depend on.
        """
        part = dataclasses.replace(self, outputs=self.tensor(name, call), name=None)
        return dataclasses.replace(part, other_names=self.others(part.names))

    def with_graph(self, graph: Graph) -> Self:
        inputs, outputs = self._tensors(graph)
        return dataclasses.replace(self, inputs=inputs, outputs=outputs)

    @property
    def known_input_shape(self) -> Any:
        return self.structure.unflatten(source.shape for source in self.sources)

    def flat_inputs(self, value: Any) -> list:
        example = self.structure.unflatten(range(len(self.sources)))
        names = [source.name for source in self.sources]
        if isinstance(value, Mapping) and not isinstance(example, dict):  # by name, as in Keras
            self._flatten_like(dict.fromkeys(names, 0), value)
            return [value[name] for name in names]
        if example == 0 and isinstance(value, list | tuple) and len(value) == 1:
            value = value[0] if hasattr(value[0], "shape") or isinstance(value[0], tuple) else value
        return self._flatten_like(example, value)

    def read_shape(self, input_shape: Any) -> Any:
        shapes = []
        for source, shape in zip(self.sources, self.flat_inputs(input_shape), strict=True):
            where = f"{self.label}: input {source.name!r}"
            shape = as_shape(shape, where)
            clash = [(n, m) for n, m in zip(shape, source.shape, strict=False) if None not in (n, m) and n != m]
            if len(shape) != len(source.shape) or clash:
                raise ValueError(f"{where} has shape {shape}; its Input has {source.shape}")
            shapes.append(tuple(m if n is None else n for n, m in zip(shape, source.shape, strict=True)))
        return self.structure.unflatten(shapes)

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Any, Effects]:
        values = []
        for source, array in zip(self.sources, self.flat_inputs(x), strict=True):
            where = f"{self.label}: input {source.name!r}"
            with explain(f"{where} is not an array of numbers"):
                # 64-bit integers stay on the host: each layer casts them to its own type
                value = array if hasattr(array, "dtype") else np.asarray(array)
                value = value if value.dtype.kind in "iu" and source.dtype is None else as_array(value, source.dtype)
            integers = source.dtype is not None and not jnp.issubdtype(source.dtype, jnp.inexact)
            if integers and jnp.issubdtype(value.dtype, jnp.inexact):
                raise TypeError(f"{where} has type {value.dtype}; its Input has {source.dtype}; round it first")
            values.append(value if source.dtype is None else value.astype(source.dtype))
        x = self.structure.unflatten(values)
        self.read_shape(shape_of(x))
        return super().call(params, x, train=train, key=key, mask=mask)

    def _flatten_like(self, example: Any, value: Any) -> list:
        """Return the leaves of ``value``, which must have the structure of ``example``."""
        if isinstance(example, dict):
            if not isinstance(value, Mapping) or set(value) != set(example):
                got = f"the names {sorted(value)}" if isinstance(value, Mapping) else f"a {type(value).__name__}"
                raise ValueError(f"{self.label}: takes a dict of the inputs {sorted(example)}; got {got}")
            return [leaf for key in sorted(example) for leaf in self._flatten_like(example[key], value[key])]
        if not isinstance(example, list):
            return [value]
        one_shape = isinstance(value, tuple) and bool(value) and all(isinstance(n, int | None) for n in value)
        if not isinstance(value, list | tuple) or len(value) != len(example) or one_shape:
            got = f"{len(value)}" if isinstance(value, list | tuple) else f"a {type(value).__name__}"
            got = f"one shape, {value}" if one_shape else got
            names = [source.name for source in self.sources]
            raise ValueError(f"{self.label}: takes a list of {len(example)} inputs, {names}; got {got}")
        return [leaf for one, part in zip(example, value, strict=True) for leaf in self._flatten_like(one, part)]

    def get_config(self) -> dict[str, Any]:
        config = {"name": self.name, "trainable": self.trainable}
        config |= {} if self.dtype is None else {"dtype": self.dtype}
        return config | functional.write(self.graph, self.sources, self.structure)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the model from the result of ``get_config``, of this class or of Keras's functional model.

        Raises:
            ValueError: an unknown layer; calls that depend on each other (a cycle) or on a missing layer.
        """
        inputs, outputs = functional.read(config)
        options = {key: config[key] for key in ("name", "trainable", "dtype") if config.get(key) is not None}
        return cls(inputs, outputs, **options)
