"""ActivityRegularization: a penalty on what passes through, and nothing else."""

import dataclasses
from typing import Any, ClassVar

import jax

from jaxconv.contract.layer import Layer, Params, Shape, as_shape, layers
from jaxconv.layers.options import as_number
from jaxconv.regularizers import L1L2

Array = jax.Array


@layers.register()
@dataclasses.dataclass(frozen=True)
class ActivityRegularization(Layer):
    """Give the input unchanged, and ``l1 * sum|x| + l2 * sum(x^2)``, divided by the batch size, as a penalty.

    The penalty is in ``effects.penalty``, as that of an ``activity_regularizer`` is.

    Args:
        l1, l2: factors, at least 0.

    Shapes:
        Any shape of rank 1 or more, kept.

    Raises:
        ValueError: a negative factor.

    >>> params, apply_fn = ActivityRegularization(l2=0.5).init(jax.random.key(0), (None, 2))
    >>> apply_fn.forward(params, jnp.array([[1.0, 3.0]]))[1].penalty
    Array(5., dtype=float32)
    """

    l1: float = 0.0
    l2: float = 0.0

    keeps_mask: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for what in ("l1", "l2"):
            self._set(**{what: as_number(getattr(self, what), what, "ActivityRegularization", 0)})

    @property
    def activity_regularizer(self) -> Any:
        """Give the penalty on the output that the two factors make."""
        return L1L2(self.l1, self.l2)

    def output_shape(self, input_shape: Any) -> Shape:
        shape = as_shape(input_shape, "ActivityRegularization")
        if not shape:
            raise ValueError("ActivityRegularization: input of shape () has no batch axis; give (batch, ...)")
        return shape

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        return x, {}

    def at_inference(self, params: Params) -> tuple[Any, Params]:
        return None, {}
