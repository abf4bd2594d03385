"""The base class of layers that contain layers: a graph of calls, and its evaluation on params, shapes and values.

Each kind of container builds its own graph. Must not import a layer.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from jaxconv.contract import LEAF, Effects, Layer, Params, Window, layers, merge, shape_of, whole
from jaxconv.contract.apply import describe_params
from jaxconv.contract.graph import Call, Graph
from jaxconv.contract.scopes import layer_scope
from jaxconv.contract.weights import sum_penalties
from jaxconv.errors import explain
from jaxconv.models.remat import block
from jaxconv.registry import nearest, snake_case


@dataclasses.dataclass(frozen=True)
class Container(Layer):
    """A layer that contains layers. A subclass sets ``graph`` in its constructor.

    The params of each layer are under its name in the container; a layer without weights has no entry.
    ``trainable=False`` applies to all layers inside, and ``dtype`` to those without a dtype, like a global policy in
    Keras.

    ``len(model)`` is the number of layers, and iteration yields them; ``model["name"]``, ``model["encoder/conv1d"]``
    and ``model[2]`` return one. A part of a model (``model[:3]`` of a Sequential, or ``model.until("name")``) has its
    layers under the same names and also takes the params of the whole model: the params of other layers are accepted,
    are fixed, and stay unchanged.
    """

    composite: ClassVar[bool] = True

    # names in the params of the whole model that are not in this part of it
    other_names: tuple[str, ...] = dataclasses.field(default=(), kw_only=True, compare=False, repr=False)
    graph: Any = dataclasses.field(init=False, compare=False)  # type: ignore[misc]  # a Graph; other layers have none

    @property
    def children(self) -> dict[str, Layer]:
        return dict(self.graph.children)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the layers; those of layers with weights are the keys of params."""
        return tuple(name for name, _ in self.graph.children)

    def _each(self) -> Sequence[Layer]:
        """Return the layers for ``len`` and iteration; a Sequential counts a shared layer once for each call."""
        return [layer for _, layer in self.graph.children]

    def __len__(self) -> int:
        return len(self._each())

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._each())

    def __getitem__(self, which: Any) -> Layer:
        if isinstance(which, str):
            return self._find(which)
        if isinstance(which, bool) or not hasattr(which, "__index__"):
            raise TypeError(f"{self.label}: got [{which!r}]; give the name of a layer or its number")
        if not -len(self) <= which < len(self):
            raise IndexError(f"{self.label}: got [{which}]; there are {len(self)} layers")
        return self._each()[which]

    def _find(self, path: str) -> Layer:
        """Return the layer with this name, or with this path of names through containers."""
        layer: Layer = self
        for name in path.split("/"):
            if name not in layer.children:
                raise ValueError(f"{layer.label}: no layer has the name {name!r}; {nearest(name, layer.children)}")
            layer = layer.children[name]
        return layer

    @property
    def output_structure(self) -> Any:
        return self.graph.structure

    @property
    def needs_key(self) -> bool:  # type: ignore[override]
        return any(layer.needs_key for _, layer in self.graph.children)

    def adopt(self, layer: Any) -> Layer:
        """Return a layer as a part of this one: with this dtype if the layer has none, and frozen if this one is."""
        if not isinstance(layer, Layer):
            hint = "call it" if isinstance(layer, type) else "give one like Conv1D(8, 3) or Activation('relu')"
            short = isinstance(layer, str | type | int | float | None)
            got = repr(layer) if short else f"an object of type {type(layer).__name__}"
            raise TypeError(f"{type(self).__name__}: {got} is not a layer; {hint}")
        if layer.dtype is None and self.dtype is not None:
            layer = dataclasses.replace(layer, dtype=self.dtype)
        return dataclasses.replace(layer, trainable=False) if layer.trainable and not self.trainable else layer

    def adopt_all(self, inside: Sequence[Any]) -> tuple[list[str], list[Layer]]:
        """Return names and adopted layers; a layer that occurs twice is shared, and its config has its name."""
        own = {id(layer): self.adopt(layer) for layer in inside}
        names = dict(zip(own, count_names(own.values(), type(self).__name__), strict=True))
        for key, times in collections.Counter(map(id, inside)).items():
            if times > 1:
                own[key] = dataclasses.replace(own[key], name=names[key])
        return [names[id(layer)] for layer in inside], [own[id(layer)] for layer in inside]

    def map_layers(self, change: Callable[[str, Layer], Layer]) -> Self:
        """Return the same container with each layer replaced by ``change(name, layer)``, under the same names.

        >>> model = jaxconv.Sequential([jaxconv.Conv1D(8, 3)])
        >>> frozen = model.map_layers(lambda name, layer: dataclasses.replace(layer, trainable=False))
        """
        changed = {name: dataclasses.replace(change(name, layer), name=name) for name, layer in self.children.items()}
        return self.with_graph(self.graph._replace(children=tuple(changed.items())))

    def with_graph(self, graph: Graph) -> Self:
        """Return this container with another graph on the same inputs; the graph names its layers.

        Raises ValueError for a graph that this kind of container cannot represent.
        """
        raise ValueError(f"{type(self).__name__}: its options determine its graph, which cannot be changed")

    def flat_inputs(self, value: Any) -> list:
        return [value]

    def _trace_shapes(self, input_shape: Any) -> tuple[list, list]:
        """Return the shapes of all values, numbered as in the graph, and the output shape of each call."""
        children, values, outputs = self.children, self.flat_inputs(self.read_shape(input_shape)), []
        for _, call, shape in self.graph.steps(values):
            with explain(f"{call.name}, given shape {shape}"):
                outputs.append(children[call.name].output_shape(shape))
            values += children[call.name].output_structure.flatten_up_to(outputs[-1])
        return values, outputs

    def shapes(self, input_shape: Any) -> list:
        """Return the output shape of each call, in order."""
        return self._trace_shapes(input_shape)[1]

    def output_shape(self, input_shape: Any) -> Any:
        # from the layers inside; the windows below contain no further information
        return self.graph.result(self._trace_shapes(input_shape)[0])

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        """Return windows that are valid for any graph: each output may read everything."""
        return tuple(map(whole, self.output_shape(input_shape)[1:]))

    def multiply_adds(self, input_shape: Any) -> int | None:
        values, children = self._trace_shapes(input_shape)[0], self.children
        counts = [children[call.name].multiply_adds(shape) for _, call, shape in self.graph.steps(values)]
        return None if None in counts else sum(count or 0 for count in counts)

    def init_params(self, key: Any, input_shape: Any) -> Params:
        children, params, first_shape = self.children, {}, {}
        values, position = self._trace_shapes(input_shape)[0], {name: index for index, name in enumerate(children)}
        for _, call, shape in self.graph.steps(values):
            name, child = call.name, children[call.name]
            with explain(f"{name}, given shape {shape}"):
                if name not in first_shape:
                    params[name] = child.init_params(jax.random.fold_in(key, position[name]), shape)
                    first_shape[name] = shape
                elif shape != first_shape[name]:
                    _check_shared(child, params[name], first_shape[name], shape, key)
        return {name: params[name] for name in children if params.get(name)}

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Any, Effects]:
        children, values = self.children, self.flat_inputs(x)
        masks = [None] * len(values) if mask is None else self.flat_inputs(mask)
        fixed: Params = {}
        penalties = []
        calls = zip(self.graph.steps(values), self.graph.steps(masks), strict=True)
        for (number, call, inputs), (*_, input_mask) in calls:
            name, child, own = call.name, children[call.name], params.get(call.name, {})
            if name in fixed:  # a shared layer: its statistics continue from the previous call
                own = merge(child.select(own, fixed=False), fixed[name])
            own_key = None if key is None else jax.random.fold_in(key, number)
            with explain(f"{name}, given shape {shape_of(inputs)}"), layer_scope(name):
                forward = block(functools.partial(_forward, child, train))
                y, effects = forward(own, inputs, own_key, _any_mask(input_mask))
            form = child.output_structure
            values += form.flatten_up_to(y)
            masks += [None] * form.num_leaves if effects.mask is None else form.flatten_up_to(effects.mask)
            penalties.append(effects.penalty)
            if name in params:
                fixed[name] = effects.fixed
        unchanged = {index for index in self.graph.outputs if index < self.graph.input_count}
        values = [self._input(value) if index in unchanged else value for index, value in enumerate(values)]
        out, out_mask = self.graph.result(values), _any_mask(self.graph.result(masks))
        return out, Effects(fixed, sum_penalties(penalties, self.policy.penalty), out_mask)

    def others(self, names: Collection[str]) -> tuple[str, ...]:
        """Return ``other_names`` of a part of this model that consists of the layers with these names."""
        return (*self.other_names, *(name for name in self.names if name not in names))

    def select(self, params: Params, *, fixed: bool) -> Params:
        own = {name: value for name, value in params.items() if name not in self.other_names}
        selected = super().select(own, fixed=fixed)
        for name in params.keys() - own.keys():
            selected[name] = params[name] if fixed else jax.tree.map(lambda _: None, params[name])
        return {name: selected[name] for name in params}

    def _check_own_names(self, params: Any) -> None:
        if not isinstance(params, Mapping) or not set(params) <= {*self.names, *self.other_names}:
            raise ValueError(f"{self.label}: params {describe_params(params)}; the layers here are {list(self.names)}")


def _forward(child: Layer, train: bool, params: Params, x: Any, key: Any, mask: Any) -> tuple[Any, Effects]:
    return child.forward(params, x, train=train, key=key, mask=mask)


def _any_mask(masks: Any) -> Any:
    """Return a structure of masks, or None if it contains no mask."""
    return masks if jax.tree.leaves(masks) else None


def _check_shared(child: Layer, params: Params, first: Any, shape: Any, key: Any) -> None:
    """Raise ValueError if a later call of a shared layer needs weights of other shapes than the first call."""
    again = jax.eval_shape(lambda key: child.init_params(key, shape), key)
    if jax.tree.map(jnp.shape, again) != jax.tree.map(jnp.shape, params):
        raise ValueError(f"the layer is shared, and its weights are for inputs of shape {first}, as in its first call")


def read_layers(configs: Iterable[Any]) -> list[Layer]:
    """Return the layers of configs; equal configs with the same name are one shared layer."""
    made: dict[str, Layer] = {}
    called = [layers.get(config) for config in configs]
    return [made.setdefault(one.name, one) if one.name and made.get(one.name, one) == one else one for one in called]


def count_names(inside: Iterable[Layer], where: str, taken: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names of layers as in Keras: the given name, or that of the class, numbered from the second layer on.

    Raises ValueError for a name that is given twice, or that is in ``taken``.
    """
    inside = tuple(inside)
    given = collections.Counter([*taken, *(layer.name for layer in inside if layer.name is not None)])
    for name, times in given.items():
        if times > 1:
            raise ValueError(f"{where}: {times} layers have the name {name!r}; names must differ")
    count: dict[str, int] = {}
    return tuple(layer.name or free_name(base_name(layer), given, count) for layer in inside)


def base_name(layer: Layer) -> str:
    """Return the start of a layer's counted names: the name of its class in snake_case."""
    return getattr(layer, "counted_as", None) or snake_case(type(layer).__name__)


def free_name(base: str, taken: Collection[str], count: dict[str, int]) -> str:
    """Return the next counted name that is not taken."""
    while True:
        number = count[base] = count.get(base, -1) + 1
        name = f"{base}_{number}" if number else base
        if name not in taken:
            return name


def chain(names: Sequence[str], inside: Sequence[Layer]) -> Graph:
    """Return the graph that calls layers in sequence."""
    inputs: tuple[int, ...] = (0,)
    calls, structure, count = [], LEAF, 1
    for name, layer in zip(names, inside, strict=True):
        calls.append(Call(name, inputs, structure))
        structure = layer.output_structure
        inputs, count = tuple(range(count, count + structure.num_leaves)), count + structure.num_leaves
    return Graph(tuple(dict(zip(names, inside, strict=True)).items()), tuple(calls), inputs, structure)


def walk(
    layer: Layer, values: Sequence[Any], visit: Callable[..., list], path: str = "", structure: Any = LEAF
) -> list:
    """Return the outputs of ``visit(path, layer, inputs, structure)`` for each call of a layer inside, in order.

    Args:
        values: a list of values that represent the inputs, such as shapes.
        structure: the structure of the inputs, for a layer that is not a container.

    >>> model = jaxconv.Sequential([jaxconv.Conv1D(8, 3), jaxconv.Flatten()])
    >>> walk(model, [(None, 10, 2)], lambda path, layer, shapes, structure: [layer.output_shape(*shapes)])
    [(None, 64)]
    """
    if not isinstance(layer, Container):
        return visit(path, layer, values, structure)
    values, children = list(values), layer.children
    for _, call, given in layer.graph.steps(values):
        child = children[call.name]
        inputs = child.flat_inputs(given) if isinstance(child, Container) else [values[index] for index in call.inputs]
        values += walk(child, inputs, visit, f"{path}/{call.name}" if path else call.name, call.structure)
    return [values[index] for index in layer.graph.outputs]


def call_params(params: Any, path: Sequence[str], wrappers: Sequence[Any]) -> Any:
    """Return the params of one call from those of the model, at ``path``; wrappers compute its kernel."""
    for name in path:
        params = params.get(name, {})
    for wrapper in wrappers:
        params = {**params["layer"], wrapper.leaf: wrapper.kernel(params, False)[0]}
    return params
