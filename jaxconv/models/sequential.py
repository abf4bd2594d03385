"""Sequential: layers in sequence, as one layer."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from jaxconv.contract import Layer, SymbolicTensor, layers, register
from jaxconv.models.container import Container, Graph, chain, read_layers
from jaxconv.models.functional import input_layer, input_shape


@register(layers)
class Sequential(Container):
    """Apply layers in sequence.

    The params of each layer are under its name: its option ``name``, or the name of its class in snake_case, counted in
    this container (``conv1d``, ``conv1d_1``). Layers without weights have no entry. ``trainable=False`` applies to all
    layers inside, and ``dtype`` to those without a dtype, like a global policy in Keras. As in Keras, and in
    :class:`Model`, a layer object that occurs twice is one shared layer with one set of params; two equal objects are
    two layers.

    Args:
        layers: layers, including other Sequentials. An ``Input`` as the first item sets ``input_shape``.

    Params: the params of each layer, under its name.

    Raises:
        ValueError: two layers with the same name; an error of a layer, preceded by its name and its input shape.

    >>> model = Sequential([layers["Conv1D"](8, 3, activation="relu"), layers["Flatten"](), layers["Dense"](2)])
    >>> params, apply_fn = model.init(jax.random.key(0), (None, 10, 3))
    >>> sorted(params), apply_fn(params, jax.numpy.ones((4, 10, 3))).shape
    (['conv1d', 'dense'], (4, 2))
    """

    keras_module: ClassVar[str] = "keras"
    layers: Any = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.layers, Layer) or not isinstance(self.layers, Iterable):
            raise TypeError(f"Sequential: layers={self.layers!r} is not a list; give one like [Conv1D(8, 3), ...]")
        inside = list(self.layers)
        if inside and isinstance(inside[0], SymbolicTensor) and inside[0].node is None:
            shape = inside.pop(0).shape[1:]
            self._set(input_shape=shape if self.input_shape is None else self.input_shape)
        names, called = self.adopt_all(inside)
        self._set(layers=tuple(called), graph=chain(names, called))

    def read_shape(self, input_shape: Any) -> Any:
        return self.layers[0].read_shape(input_shape) if self.layers else super().read_shape(input_shape)

    @property
    def known_input_shape(self) -> Any:
        own = super().known_input_shape
        return self.layers[0].known_input_shape if own is None and self.layers else own

    def _each(self) -> Sequence[Layer]:
        return self.layers

    def __getitem__(self, which: Any) -> Any:
        """Return one layer, or for a slice a Sequential of its layers, which keep their names."""
        if not isinstance(which, slice):
            return super().__getitem__(which)
        children = {name: dataclasses.replace(layer, name=name) for name, layer in self.graph.children}
        named = [children[call.name] for call in self.graph.calls[which]]
        shape = self.input_shape if named and named[0].name == self.names[0] else None
        others = self.others([layer.name for layer in named])
        return dataclasses.replace(self, layers=named, name=None, input_shape=shape, other_names=others)

    def until(self, name: str) -> Self:
        """Return the model up to the last call of a layer. It also takes the params of the whole model.

        >>> model = Sequential([layers["Conv1D"](8, 3), layers["Flatten"](), layers["Dense"](2)])
        >>> params, _ = model.init(jax.random.key(0), (None, 10, 3))
        >>> model.until("conv1d").apply_fn(params, jax.numpy.ones((4, 10, 3))).shape
        (4, 8, 8)
        """
        super().__getitem__(name)
        return self[: max(number for number, call in enumerate(self.graph.calls) if call.name == name) + 1]

    def with_graph(self, graph: Graph) -> Self:
        children = dict(graph.children)
        inside = [children[call.name] for call in graph.calls]
        if chain([call.name for call in graph.calls], inside)[1:] != graph[1:]:
            return super().with_graph(graph)
        return dataclasses.replace(self, layers=inside)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"layers": [layers.serialize(layer) for layer in self.layers]}
        shape = config.pop("input_shape", None)
        return config if shape is None else config | {"layers": [input_layer((None, *shape)), *config["layers"]]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the model from its config or from Keras's, whose input layer becomes ``input_shape``."""
        options = dict(config)
        shape, inside = options.pop("build_input_shape", None), list(options.pop("layers", ()))
        first = input_shape(inside[0]) if inside else None
        if first is not None:
            shape, inside = first, inside[1:]
        if shape is not None:
            options.setdefault("input_shape", shape[1:])
        return cls(**options, layers=read_layers(inside))
