"""ActivityRegularization: a penalty on the input, which is returned unchanged."""

from typing import Any, ClassVar

from jax import Array

from jaxconv.contract import POINTWISE, Effects, Layer, Params, Window, layers, register
from jaxconv.layers.options import at_least_0
from jaxconv.regularizers import L1L2


@register(layers)
class ActivityRegularization(Layer):
    """Add the penalty ``l1 * sum|x| + l2 * sum(x^2)``, divided by the batch size; the output is the input.

    The penalty is in ``effects.penalty``, like that of an ``activity_regularizer``.

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

    least_rank: ClassVar[int] = 1
    checks: ClassVar[dict[str, Any]] = {"l1": at_least_0, "l2": at_least_0}
    output_values: ClassVar[str | None] = "input"

    @property
    def activity_regularizer(self) -> Any:
        """Return the penalty on the output."""
        return L1L2(self.l1, self.l2)

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        return (POINTWISE,) * (len(input_shape) - 1)

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        return x, Effects()
