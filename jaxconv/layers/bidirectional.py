"""Bidirectional: a forward and a backward recurrent layer, with merged outputs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from jaxconv.contract import LEAF, MIXED, Effects, Params, Shape, Window, layers, register, whole
from jaxconv.contract.weights import sum_penalties
from jaxconv.layers.recurrent import Recurrent, WithStates, check_states, sequence_of
from jaxconv.layers.wrapper import Wrapper

MERGES: dict[str, Callable] = {
    "concat": lambda one, other: jnp.concatenate([one, other], -1),
    "sum": lambda one, other: one + other,
    "mul": lambda one, other: one * other,
    "ave": lambda one, other: (one + other) / 2,
}


@register(layers)
class Bidirectional(Wrapper, WithStates):
    """Run a recurrent layer forwards and a second one backwards over a sequence, and merge their outputs.

    Keras's layer, without ``weights``. Both outputs, and the mask, are in the order of ``layer``'s output: that of the
    input, unless ``layer`` itself goes backwards. Initial states follow the sequence in a list of inputs, those of
    ``layer`` first: ``Bidirectional(LSTM(8))([x, h, c, backward_h, backward_c])``.

    Args:
        layer: the recurrent layer, such as ``LSTM(8)``.
        merge_mode: "concat" (along the last axis), "sum", "mul", "ave", or None for a list of both outputs.
        backward_layer: the second layer, whose ``go_backwards`` is the opposite; None for one with the same options.

    Shapes:
        those of ``layer``; with "concat", twice as many channels. If the layers have ``return_state``, a list: the
        output, or both outputs, then the states of ``layer`` and those of ``backward_layer``.

    Params: forward_layer, backward_layer: the params of the two layers.

    Raises:
        TypeError: a layer that is not recurrent.
        ValueError: an unknown ``merge_mode``; two layers with the same direction, or with different outputs.

    >>> params, apply_fn = Bidirectional(jaxconv.LSTM(4, return_sequences=True)).init(jax.random.key(0), (None, 10, 3))
    >>> apply_fn(params, jnp.ones((2, 10, 3))).shape
    (2, 10, 8)
    """

    time_is_axis_1: ClassVar[bool] = True

    merge_mode: str | None = "concat"
    backward_layer: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.merge_mode not in (None, *MERGES):
            raise ValueError(
                f"Bidirectional: unknown merge_mode={self.merge_mode!r}; expected {', '.join(MERGES)}, None"
            )
        if not isinstance(self.layer, Recurrent):
            raise TypeError(f"Bidirectional: {self.layer!r} is not a recurrent layer; give one like LSTM(8)")
        second = self.backward_layer
        if second is None:
            second = dataclasses.replace(self.layer, go_backwards=True)  # type: ignore[call-arg]  # its subclasses' field
        if not isinstance(second, Recurrent):
            raise TypeError(f"Bidirectional: backward_layer={second!r} is not a recurrent layer; give one like LSTM(8)")
        second = Wrapper(second, dtype=self.dtype, trainable=self.trainable).layer
        if second.go_backwards == self.layer.go_backwards:
            raise ValueError(f"Bidirectional: both layers have go_backwards={second.go_backwards}; reverse one of them")
        for what in ("return_sequences", "return_state"):
            one, other = getattr(self.layer, what), getattr(second, what)
            if one != other:
                raise ValueError(f"Bidirectional: layer has {what}={one}, backward_layer {other}; they must be equal")
        hide: dict[str, Any] = {"zero_output_for_mask": self.layer.return_sequences}  # as in Keras
        self._set(layer=dataclasses.replace(self.layer, **hide), backward_layer=dataclasses.replace(second, **hide))

    @property
    def children(self) -> dict[str, Any]:
        return {"forward_layer": self.layer, "backward_layer": self.backward_layer}

    @property
    def needs_key(self) -> bool:  # type: ignore[override]
        return self.layer.needs_key or self.backward_layer.needs_key

    def mask_layouts(self, rank: int) -> list[tuple[int, ...]]:
        return self.layer.mask_layouts(rank)

    def init_params(self, key: Any, input_shape: Shape) -> Params:
        pairs = zip(jax.random.split(key), self.children.items(), strict=True)
        return {name: child.init_params(own, sequence_of(input_shape)) for own, (name, child) in pairs}

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        input_shape = sequence_of(input_shape)
        *before, channels = self.layer.windows(input_shape)
        first, second = (_one(child.output_shape(input_shape)) for child in self.children.values())
        if first[:-1] != second[:-1] or (self.merge_mode != "concat" and first != second):
            mode = self.merge_mode
            what = f"outputs of shapes {first} and {second} do not fit merge_mode={mode!r}"
            raise ValueError(f"Bidirectional: {what}; give two layers with equal output shapes")
        if self.layer.return_sequences:
            before[0] = MIXED
        width = channels.output_length(input_shape[-1])
        return (*before, whole(first[-1] + second[-1]) if self.merge_mode == "concat" else whole(width))

    def output_shape(self, input_shape: Any) -> Any:
        # the windows describe one output; there may be two, and states
        given = self.read_shape(input_shape)
        shape = sequence_of(given)
        y = super().output_shape(shape)
        if isinstance(given, list):
            own = [child.state_shape(shape) for child in self.children.values() for _ in range(child.state_count)]
            check_states(given, own, type(self).__name__)
        ys = [y] if self.merge_mode else [y, y]
        states = [s for child in self.children.values() for s in _states(child.output_shape(shape))]
        return [*ys, *states] if len(ys) > 1 or states else y

    @property
    def output_structure(self) -> Any:
        inside = [child.output_structure.num_leaves - 1 for child in self.children.values()]
        count = (1 if self.merge_mode else 2) + sum(inside)
        return LEAF if count == 1 else jax.tree.structure([0] * count)

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Any, Effects]:
        outputs, states, fixed, masks, penalties = [], [], {}, [], []
        first, given = x, []
        if isinstance(x, list):
            first, *given = x
        for index, (name, child) in enumerate(self.children.items()):
            own = None if key is None else jax.random.fold_in(key, index)
            begin, given = given[: child.state_count], given[child.state_count :]
            real = mask[0] if isinstance(mask, list) else mask
            given_first = [first, *begin] if begin else first
            y, effects = child.forward(params[name], given_first, train=train, key=own, mask=real)
            one, real = _one(y), _one(effects.mask)
            if self.layer.return_sequences and index:  # as in Keras, regardless of which layer goes backwards
                one, real = jnp.flip(one, 1), None if real is None else jnp.flip(real, 1)
            outputs.append(one)
            states += _states(y)
            masks.append(real)
            fixed[name] = effects.fixed
            penalties.append(effects.penalty)
        penalty = sum_penalties(penalties, self.policy.penalty)
        ys = outputs if self.merge_mode is None else [MERGES[self.merge_mode](*outputs)]
        if len(ys) == 1 and not states:
            return ys[0], Effects(fixed, penalty, masks[0])
        found = None if masks[0] is None else [*masks[: len(ys)], *[None] * len(states)]
        return [*ys, *states], Effects(fixed, penalty, found)

    def multiply_adds(self, input_shape: Any) -> int | None:
        # the sum over both layers
        found = [child.multiply_adds(sequence_of(input_shape)) for child in self.children.values()]
        return None if None in found else sum(found)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"backward_layer": layers.serialize(self.backward_layer)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the wrapper from the result of ``get_config``, or from Keras's own config."""
        second = config.get("backward_layer")
        return super().from_config({**config, "backward_layer": None if second is None else layers.get(second)})


def _one(value: Any) -> Any:
    """Return the output of a layer, its shape or its mask, without the states."""
    return value[0] if isinstance(value, list) else value


def _states(value: Any) -> list:
    return value[1:] if isinstance(value, list) else []
