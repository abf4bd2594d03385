"""The base class of layers that wrap one other layer, whose params are under "layer"."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from jaxconv.contract import Layer, layers
from jaxconv.contract.policy import Policy


@dataclasses.dataclass(frozen=True)
class Wrapper(Layer):
    """A layer with one layer inside, to which ``trainable=False`` and ``dtype`` apply as in a Sequential.

    >>> jaxconv.WeightNormalization(jaxconv.Dense(2), trainable=False).layer.trainable
    False
    """

    composite: ClassVar[bool] = True

    layer: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        inside = self.layer
        if not isinstance(inside, Layer):
            raise TypeError(f"{type(self).__name__}: {inside!r} is not a layer; give one like Conv1D(8, 3)")
        if inside.dtype is None and self.dtype is not None:
            inside = dataclasses.replace(inside, dtype=self.dtype)
        if inside.trainable and not self.trainable:
            inside = dataclasses.replace(inside, trainable=False)
        self._set(layer=inside)

    @property
    def children(self) -> dict[str, Layer]:
        return {"layer": self.layer}

    @property
    def needs_key(self) -> bool:  # type: ignore[override]
        return self.layer.needs_key

    @property
    def known_input_shape(self) -> Any:
        return super().known_input_shape or self.layer.known_input_shape

    @property
    def policy(self) -> Policy:
        return self.layer.policy

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"layer": layers.serialize(self.layer)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the wrapper from the result of ``get_config``, or from Keras's own config."""
        return super().from_config({**config, "layer": layers.get(config.get("layer"))})
