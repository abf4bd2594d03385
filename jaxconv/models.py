"""Sequential: layers one after the other, as one layer. Knows layers by their contract alone."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from jaxconv.dtypes import promote
from jaxconv.errors import explain
from jaxconv.layers.layer import Effects, Layer, Params, Shape, as_shape, layers
from jaxconv.registry import snake_case

Array = jax.Array


@layers.register()
@dataclasses.dataclass(frozen=True)
class Sequential(Layer):
    """Apply layers one after the other.

    Each layer's params stand under its name: the one it was given, or its class's in snake_case, counted in this
    container (``conv1d``, ``conv1d_1``). Layers without weights have no entry. ``trainable=False`` holds for all layers
    inside, and ``dtype`` for those that have none of their own, as a global policy does in Keras.

    Args:
        layers: layers, each with any options, nested Sequentials included.

    Params:
        name of a layer: its params.

    Raises:
        ValueError: two layers of one name; an error of a layer, with its name and the shape it was given in front.

    >>> model = Sequential([layers["Conv1D"](8, 3, activation="relu"), layers["Flatten"](), layers["Dense"](2)])
    >>> params, apply_fn = model.init(jax.random.key(0), (None, 10, 3))
    >>> sorted(params), apply_fn(params, jnp.ones((4, 10, 3))).shape
    (['conv1d', 'dense'], (4, 2))
    """

    keras_module: ClassVar[str] = "keras"
    layers: Any = ()
    names: tuple[str, ...] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.layers, Layer) or not isinstance(self.layers, Iterable):
            raise TypeError(
                f"Sequential: layers={self.layers!r} is no list of layers; give one like [Conv1D(8, 3), ...]"
            )
        inside = tuple(self._adopt(layer) for layer in self.layers)
        self._set(layers=inside, names=count_names(inside))

    def _adopt(self, layer: Any) -> Layer:
        if not isinstance(layer, Layer):
            hint = "; write it with parentheses" if isinstance(layer, type) else ""
            raise TypeError(f"Sequential: {layer!r} is no layer{hint}")
        if layer.dtype is None and self.dtype is not None:
            layer = dataclasses.replace(layer, dtype=self.dtype)
        return dataclasses.replace(layer, trainable=False) if layer.trainable and not self.trainable else layer

    @property
    def children(self) -> dict[str, Layer]:
        return dict(zip(self.names, self.layers, strict=True))

    @property
    def draws(self) -> bool:  # type: ignore[override]
        return any(layer.draws for layer in self.layers)

    def shapes(self, input_shape: Any) -> list[Shape]:
        """Give the output shape of each layer in turn."""
        shape, out = as_shape(input_shape, "Sequential"), []
        for name, layer in self.children.items():
            with explain(f"{name}, given shape {shape}"):
                shape = layer.output_shape(shape)
            out.append(shape)
        return out

    def output_shape(self, input_shape: Any) -> Shape:
        shape = as_shape(input_shape, "Sequential")
        return self.shapes(shape)[-1] if self.layers else shape

    def init(self, key: Any, input_shape: Any = None) -> tuple[Params, Any]:
        if input_shape is None and self.input_shape is None and self.layers and self.layers[0].input_shape is not None:
            input_shape = (None, *self.layers[0].input_shape)
        return super().init(key, input_shape)

    def init_params(self, key: Any, input_shape: Shape) -> Params:
        params: Params = {}
        given = [input_shape, *self.shapes(input_shape)]
        for index, (name, layer) in enumerate(self.children.items()):
            with explain(f"{name}, given shape {given[index]}"):
                own = layer.init_params(jax.random.fold_in(key, index), given[index])
            if own:
                params[name] = own
        return params

    def forward(self, params: Params, x: Any, *, train: bool, key: Any) -> tuple[Array, Effects]:
        self._check_names(params)
        fixed: Params = {}
        penalties = []
        for index, (name, layer) in enumerate(self.children.items()):
            own_key = None if key is None else jax.random.fold_in(key, index)
            with explain(f"{name}, given shape {getattr(x, 'shape', None)}"):
                x, effects = layer.forward(params.get(name, {}), x, train=train, key=own_key)
            penalties.append(effects.penalty)
            if name in params:
                fixed[name] = effects.fixed
        dtype = promote(self.policy.penalty, *(p.dtype for p in penalties))
        penalty = sum((p.astype(dtype) for p in penalties), start=jnp.zeros((), dtype))
        return (x if self.layers else self._input(x)), Effects(fixed, penalty)

    def _check_names(self, params: Any) -> None:
        if not isinstance(params, Mapping) or not set(params) <= set(self.names):
            got = sorted(params) if isinstance(params, Mapping) else type(params).__name__
            raise ValueError(f"{self.label}: params has {got}; the layers here are {list(self.names)}")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"layers": [layers.serialize(layer) for layer in self.layers]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the model from what ``get_config`` gave, or from Keras's own; its input layer is a shape here."""
        given = dict(config)
        shape, inside = given.pop("build_input_shape", None), list(given.pop("layers", ()))
        if inside and isinstance(inside[0], Mapping) and inside[0].get("class_name") == "InputLayer":
            shape = inside.pop(0)["config"].get("batch_shape", shape)
        if shape is not None:
            given.setdefault("input_shape", shape[1:])
        return cls(**given, layers=[layers.get(layer) for layer in inside])


def count_names(inside: Iterable[Layer]) -> tuple[str, ...]:
    """Name layers as Keras does: the given name, or the class's, counted from the second one on."""
    inside = tuple(inside)
    taken = [layer.name for layer in inside if layer.name is not None]
    for name in taken:
        if taken.count(name) > 1:
            raise ValueError(f"Sequential: {taken.count(name)} layers have the name {name!r}; names must differ")
    names: list[str] = []
    count: dict[str, int] = {}
    for layer in inside:
        names.append(layer.name or _free(snake_case(type(layer).__name__), taken, count))
    return tuple(names)


def _free(base: str, taken: list[str], count: dict[str, int]) -> str:
    """Give the next counted name that nobody was given."""
    while True:
        number = count[base] = count.get(base, -1) + 1
        name = f"{base}_{number}" if number else base
        if name not in taken:
            return name
