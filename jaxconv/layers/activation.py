"""Elementwise activations: Activation, for any registered function, and layers with options or weights."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxconv import activations
from jaxconv.contract import MIXED, POINTWISE, Effects, Layer, Params, Shape, Weight, Window, layers, register, whole
from jaxconv.contract.masks import as_mask, fill_masked, fitting_axes
from jaxconv.layers.activation_axis import activate, activated_width, uses_axis
from jaxconv.layers.options import as_axis, as_number, at_least_0, input_axes, known_sizes
from jaxconv.layers.sharding import broadcast_like
from jaxconv.regularizers import L1L2


@register(layers)
class Activation(Layer):
    """Apply an activation to every element; softmax, log_softmax and glu work along the last axis.

    Args:
        activation: name, function or config; None is linear.
        activity_regularizer: penalty on the output, divided by the batch size.

    Shapes: Any shape, kept (``glu`` halves the last axis).

    >>> params, apply_fn = Activation("relu").init(jax.random.key(0), (None, 3))
    >>> apply_fn(params, jnp.array([[-1.0, 0.0, 2.0]]))
    Array([[0., 0., 2.]], dtype=float32)
    """

    activation: Any
    activity_regularizer: Any = None

    output_values: ClassVar[str | None] = "activation"

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        rank = len(input_shape) - 1
        if rank < 1 or not uses_axis(self.activation):
            return (POINTWISE,) * max(rank, 0)
        width = input_shape[-1]
        halved = width is not None and activated_width(self.activation, width, "Activation") != width
        return (*(POINTWISE,) * (rank - 1), whole(width // 2) if halved else MIXED)

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        return activate(self.activation, x, -1), Effects()


@dataclasses.dataclass(frozen=True)
class Pointwise(Layer):
    """A function of each element."""

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        return (POINTWISE,) * (len(input_shape) - 1)

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        return self.function(x), Effects()

    def function(self, x: Array) -> Array:
        """Compute the output."""
        raise NotImplementedError


@register(layers)
class Identity(Pointwise):
    """Return the input unchanged.

    Shapes: Any shape, kept.

    >>> Identity().apply_fn({}, jnp.array([[1.0, 2.0]]))
    Array([[1., 2.]], dtype=float32)
    """

    output_values: ClassVar[str | None] = "input"

    def function(self, x: Array) -> Array:
        return x


@register(layers)
class ReLU(Pointwise):
    """Apply a ReLU: ``min(x, max_value)`` above ``threshold``, ``negative_slope * (x - threshold)`` elsewhere.

    Args:
        max_value: upper bound of the output, at least 0; None means unbounded.
        negative_slope: slope below the threshold, at least 0.
        threshold: inputs above it are returned unchanged; at least 0.

    Shapes: Any shape, kept.

    Raises:
        ValueError: a negative option.

    >>> params, apply_fn = ReLU(max_value=6, negative_slope=0.5).init(jax.random.key(0), (None, 3))
    >>> apply_fn(params, jnp.array([[-2.0, 1.0, 9.0]]))
    Array([[-1.,  1.,  6.]], dtype=float32)
    """

    max_value: float | None = None
    negative_slope: float = 0.0
    threshold: float = 0.0

    checks: ClassVar[dict[str, Any]] = {
        "max_value": lambda value, *names: None if value is None else at_least_0(value, *names),
        "negative_slope": at_least_0,
        "threshold": at_least_0,
    }

    output_values: ClassVar[str | None] = "relu"

    def function(self, x: Array) -> Array:
        return activations.relu(x, self.negative_slope, self.max_value, self.threshold)


@register(layers)
class LeakyReLU(Pointwise):
    """Apply a leaky ReLU: ``x`` where positive, ``negative_slope * x`` elsewhere.

    Args:
        negative_slope: slope for negative inputs, at least 0. The default is 0.3; that of the function ``leaky_relu``
            is 0.2. ``from_config`` also reads ``alpha``, its name in Keras 2.

    Shapes: Any shape, kept.

    Raises:
        ValueError: a negative slope.

    Source: Maas, Hannun and Ng 2013, https://ai.stanford.edu/~amaas/papers/relu_hybrid_icml2013_final.pdf

    >>> params, apply_fn = LeakyReLU(0.5).init(jax.random.key(0), (None, 2))
    >>> apply_fn(params, jnp.array([[-2.0, 3.0]]))
    Array([[-1.,  3.]], dtype=float32)
    """

    negative_slope: float = 0.3

    checks: ClassVar[dict[str, Any]] = {"negative_slope": at_least_0}
    output_values: ClassVar[str | None] = "leaky_relu"

    def function(self, x: Array) -> Array:
        return activations.leaky_relu(x, self.negative_slope)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the layer from its config, or from one of Keras 2 or 3."""
        return super().from_config({"negative_slope" if k == "alpha" else k: v for k, v in config.items()})


@register(layers)
class ELU(Pointwise):
    """Apply an exponential linear unit: ``x`` where positive, ``alpha * (exp(x) - 1)`` elsewhere.

    Args:
        alpha: the output for large negative inputs is ``-alpha``.

    Shapes: Any shape, kept.

    Raises:
        ValueError: an alpha that is not a finite number.

    Source: Clevert et al. 2016, https://arxiv.org/abs/1511.07289

    >>> params, apply_fn = ELU(2).init(jax.random.key(0), (None, 2))
    >>> apply_fn(params, jnp.array([[-100.0, 3.0]]))
    Array([[-2.,  3.]], dtype=float32)
    """

    alpha: float = 1.0

    checks: ClassVar[dict[str, Any]] = {"alpha": as_number}
    output_values: ClassVar[str | None] = "elu"

    def function(self, x: Array) -> Array:
        return activations.elu(x, self.alpha)


@register(layers)
class Softmax(Layer):
    """Apply a softmax: ``exp(x) / sum(exp(x))`` along one or more axes.

    Masked entries get 0 and are left out of the sum. The mask covers the steps, (batch, time), or all entries, with a
    shape that broadcasts against the input. Keras's layer takes the second form only.

    Args:
        axis: axis, or axes that are summed over together; 0 is the batch.

    Shapes: Any shape of rank 1 or more, kept.

    Raises:
        TypeError: an axis that is not an integer.
        ValueError: an axis that the input does not have.

    >>> params, apply_fn = Softmax().init(jax.random.key(0), (None, 2))
    >>> apply_fn(params, jnp.zeros((1, 2)))
    Array([[0.5, 0.5]], dtype=float32)
    """

    axis: Any = -1

    checks: ClassVar[dict[str, Any]] = {"axis": as_axis}
    output_values: ClassVar[str | None] = "softmax"

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        axes = input_axes(self.axis, input_shape, "Softmax", batch=True)
        return tuple(MIXED if axis in axes else POINTWISE for axis in range(1, len(input_shape)))

    def read_mask(self, mask: Any, shape: Any) -> Any:
        if mask is None:
            return None
        steps, sizes = self.mask_layouts(len(shape)), np.shape(mask)
        if len(sizes) > len(shape):
            what = f"mask of shape {sizes} has more axes than input of shape {shape}"
            raise ValueError(f"{self.label}: {what}; give at most {len(shape)}")
        # Keras's form, over all entries, is accepted as well
        entries = [tuple(range(len(shape) - len(sizes), len(shape)))]
        either = fitting_axes(sizes, shape, entries, broadcast=True)
        if fitting_axes(sizes, shape, steps) and not (either and len(sizes) == 1):
            return as_mask(mask, shape, steps, self.label)
        mask = as_mask(mask, shape, entries, self.label, broadcast=True)
        return mask.reshape((1,) * (len(shape) - mask.ndim) + mask.shape)

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        if mask is None:
            return activations.softmax(x, self.axis), Effects()
        least = float(jnp.finfo(x.dtype).min)  # not -inf: all entries may be masked
        return fill_masked(activations.softmax(fill_masked(x, mask, least), self.axis), mask), Effects()

    def output_mask(self, x: Array, mask: Any) -> Any:
        # a mask over entries does not say which steps are unmasked
        return mask if mask is not None and mask.ndim < x.ndim else None


@register(layers, "prelu")
class PReLU(Layer):
    """Apply a ReLU with learned slopes: ``x`` where positive, ``alpha * x`` elsewhere, one alpha for each entry.

    Args:
        alpha_initializer, alpha_regularizer, alpha_constraint: as in every layer.
        shared_axes: axis or axes of the input (counted from 1, or from the end) along which alpha is the same: [1, 2]
            for an image under channels_last means one alpha for each channel. None shares nothing.

    Shapes: Any shape of rank 2 or more, kept.

    Params: alpha: the input's shape without batch, with 1 for each shared axis, ``alpha_initializer``.

    Raises:
        TypeError: a shared axis that is not an integer.
        ValueError: a shared axis that the input does not have; an axis of unknown size that is not shared.

    Source: He et al. 2015, https://arxiv.org/abs/1502.01852

    >>> params, apply_fn = PReLU("ones", shared_axes=1).init(jax.random.key(0), (None, 9, 3))
    >>> params["alpha"].shape
    (1, 3)
    """

    alpha_initializer: Any = "zeros"
    alpha_regularizer: Any = None
    alpha_constraint: Any = None
    shared_axes: Any = None

    min_rank: ClassVar[int] = 2
    output_values: ClassVar[str | None] = "leaky_relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        axes = None if self.shared_axes in (None, (), []) else as_axis(self.shared_axes, "shared_axes", "PReLU")
        self._set(shared_axes=(axes,) if isinstance(axes, int) else axes)

    def _shared(self, shape: Shape) -> tuple[int, ...]:
        return input_axes(self.shared_axes, shape, "PReLU", what="shared_axes") if self.shared_axes else ()

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        self._shared(input_shape)
        return (POINTWISE,) * (len(input_shape) - 1)

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        shared = self._shared(input_shape)
        own = tuple(1 if axis in shared else size for axis, size in enumerate(input_shape))
        return {"alpha": Weight(known_sizes(tuple(range(1, len(own))), own, "PReLU"), self.alpha_initializer)}

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        alpha = broadcast_like(params["alpha"][None], x)
        return jax.nn.relu(x) - alpha * jax.nn.relu(-x), Effects()


@register(layers)
class ActivityRegularization(Pointwise):
    """Return the input, and add the penalty ``l1 * sum|x| + l2 * sum(x^2)``, divided by the batch size.

    The penalty is in ``effects.penalty``, like that of an ``activity_regularizer``.

    Args:
        l1, l2: factors, at least 0.

    Shapes: Any shape of rank 1 or more, kept.

    Raises:
        ValueError: a negative factor.

    >>> params, apply_fn = ActivityRegularization(l2=0.5).init(jax.random.key(0), (None, 2))
    >>> apply_fn.forward(params, jnp.array([[1.0, 3.0]]))[1].penalty
    Array(5., dtype=float32)
    """

    l1: float = 0.0
    l2: float = 0.0

    min_rank: ClassVar[int] = 1
    checks: ClassVar[dict[str, Any]] = {"l1": at_least_0, "l2": at_least_0}
    output_values: ClassVar[str | None] = "input"

    @property
    def activity_regularizer(self) -> Any:
        """Return the penalty on the output."""
        return L1L2(self.l1, self.l2)

    def function(self, x: Array) -> Array:
        return x
