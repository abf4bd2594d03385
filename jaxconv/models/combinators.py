"""Parallel and Residual: layers that apply branches to one input and merge their outputs."""

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import jax

from jaxconv.contract import Layer, layers, register
from jaxconv.models.container import Call, Container, Graph, read_layers
from jaxconv.models.sequential import Sequential


@dataclasses.dataclass(frozen=True)
class _Branching(Container):
    """The base class: several layers on one input, and a merging layer on their outputs."""

    def connect(self, names: Sequence[str], inside: list[Layer]) -> None:
        """Set the graph: the last layer is called on the outputs of the other layers, and these on the input."""
        calls, count = [], 1
        for name, layer in zip(names[:-1], inside[:-1], strict=True):
            calls.append(Call(name, (0,)))
            count += layer.output_structure.num_leaves
        inputs = tuple(range(1, count))
        calls.append(Call(names[-1], inputs, jax.tree.structure([0] * len(inputs))))
        self._set(graph=Graph(tuple(dict(zip(names, inside, strict=True)).items()), tuple(calls), (count,)))

    def read_shape(self, input_shape: Any) -> Any:
        return self.graph.children[0][1].read_shape(input_shape)


@register(layers)
class Parallel(_Branching):
    """Apply several branches to the same input and merge their outputs (not in Keras, which needs a Model for this).

    Args:
        branches: layers, or lists of layers (each a Sequential). A layer object that occurs twice is one shared layer.
        merge: the name of a merging layer, such as ``"concatenate"`` or ``"add"``, or a merging layer.

    Shapes: the input shape of the branches -> the output shape of ``merge`` for their outputs.

    Params: the params of each branch, under its name as in a Sequential.

    Raises:
        ValueError: no branch; two branches with the same name; outputs that cannot be merged, with their shapes.

    >>> windows = Parallel([layers["Conv1D"](4, k, padding="same") for k in (3, 5, 9)])  # as in Inception
    >>> params, apply_fn = windows.init(jax.random.key(0), (None, 32, 2))
    >>> sorted(params), apply_fn(params, jax.numpy.ones((1, 32, 2))).shape
    (['conv1d', 'conv1d_1', 'conv1d_2'], (1, 32, 12))
    """

    branches: Any = ()
    merge: Any = "concatenate"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.branches, Layer | str | Mapping) or not isinstance(self.branches, Iterable):
            raise TypeError(f"Parallel: branches={self.branches!r} is not a list; give one like [Conv1D(8, 3), ...]")
        branches = [
            branch if isinstance(branch, Layer) or not isinstance(branch, Iterable) else Sequential(list(branch))
            for branch in self.branches
        ]
        if not branches:
            raise ValueError("Parallel: got no branches; give at least one")
        names, (*adopted, last) = self.adopt_all([*branches, _as_merge(self.merge)])
        self._set(branches=tuple(adopted), merge=last)
        self.connect(names, [*adopted, last])

    def with_graph(self, graph: Graph) -> Self:
        if graph[1:] != self.graph[1:]:
            return super().with_graph(graph)
        *branches, merge = (dict(graph.children)[call.name] for call in graph.calls)
        return dataclasses.replace(self, branches=branches, merge=merge)

    def get_config(self) -> dict[str, Any]:
        branches = [layers.serialize(branch) for branch in self.branches]
        return super().get_config() | {"branches": branches, "merge": layers.serialize(self.merge)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        merge = config.get("merge", "concatenate")
        read = {"branches": read_layers(config["branches"]), "merge": layers.get(merge)}
        return cls(**{**config, **read})


@register(layers)
class Residual(_Branching):
    """Add the output of layers to their input: ``y = layers(x) + shortcut(x)`` (not in Keras, which needs a Model).

    Args:
        layers: layers, applied in sequence.
        shortcut: the layer on the other path, usually a convolution of width 1, needed if the shapes differ. None means
            the input itself.

    Shapes: the input shape of the layers -> their output shape, to which the shortcut's output is added.

    Params: body: the params of the layers, by name. shortcut: those of the shortcut. Parts without weights have no
    entry.

    Raises:
        ValueError: outputs that cannot be added, with both shapes.

    Source: He et al. 2015, arXiv:1512.03385; the example is the block of Bai et al. 2018, arXiv:1803.01271.

    >>> def block(filters, rate):
    ...     options = {"padding": "causal", "dilation_rate": rate, "activation": "relu"}
    ...     body = [layers["Conv1D"](filters, 3, **options) for _ in range(2)]
    ...     return Residual(body, shortcut=layers["Conv1D"](filters, 1))
    >>> tcn = Sequential([block(8, 1), block(8, 2), block(8, 4)])
    >>> tcn.output_shape((None, 100, 2))
    (None, 100, 8)
    """

    layers: Any = ()
    shortcut: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.layers, Layer | str | Mapping) or not isinstance(self.layers, Iterable):
            raise TypeError(f"Residual: layers={self.layers!r} is not a list; give one like [Conv1D(8, 3), ...]")
        body = self.adopt(Sequential(list(self.layers)))
        shortcut = self.adopt(Sequential([]) if self.shortcut is None else self.shortcut)
        self._set(layers=body.layers, shortcut=None if self.shortcut is None else shortcut)  # type: ignore[attr-defined]
        self.connect(("body", "shortcut", "add"), [body, shortcut, self.adopt(layers["Add"]())])

    def with_graph(self, graph: Graph) -> Self:
        (_, body), (_, shortcut), _ = graph.children
        if graph[1:] != self.graph[1:] or not isinstance(body, Sequential):
            return super().with_graph(graph)
        return dataclasses.replace(self, layers=body.layers, shortcut=None if self.shortcut is None else shortcut)

    def get_config(self) -> dict[str, Any]:
        inside = [layers.serialize(layer) for layer in self.layers]
        return super().get_config() | {"layers": inside, "shortcut": layers.serialize(self.shortcut)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        body = Sequential.from_config({"layers": config["layers"]})
        return cls(**{**config, "layers": body.layers, "shortcut": layers.get(config.get("shortcut"))})


def _as_merge(given: Any) -> Layer:
    """Return a merging layer: one that reads a list of shapes."""
    if isinstance(given, str):
        layers[given]  # raises ValueError with the nearest name if it is unknown
    try:
        layer = layers.get(given)
        with contextlib.suppress(ValueError):  # it reads lists, though not of these shapes
            layer.read_shape([(None, 1), (None, 1)])
    except (TypeError, AttributeError):
        raise TypeError(f"Parallel: merge={given!r} is not a merging layer; give a name like 'add', or Add()") from None
    return layer
