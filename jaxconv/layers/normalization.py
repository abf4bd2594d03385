"""BatchNormalization: statistics of the batch in training, running statistics at inference."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.dtypes import promote
from jaxconv.layers.layer import Layer, Params, Shape, Weight, as_shape, layers

Array = jax.Array


@layers.register()
@dataclasses.dataclass(frozen=True)
class BatchNormalization(Layer):
    """Normalize each channel: ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``.

    In training, mean and (biased) variance are those of the batch over all other axes, and the running ones move:
    ``moving = momentum * moving + (1 - momentum) * batch``; the new ones come in ``effects.fixed``. At inference, and
    with ``trainable=False`` always, the running ones are used, as in Keras. Statistics are float32 at least.
    Under ``jit`` with a batch sharded over devices the statistics are those of the whole batch; inside ``shard_map``
    they are each shard's own.

    Args:
        axis: the channel axis: -1 for channels_last, 1 for channels_first.
        momentum: the part of the old running value that is kept at each step.
        epsilon: added to the variance.
        center, scale: whether there is a beta, a gamma.
        *_initializer, *_regularizer, *_constraint: as in every layer.

    Shapes:
        Any shape of rank 2 or more, kept.

    Params:
        gamma: (channels,), ones. beta: (channels,), zeros.
        moving_mean: (channels,), zeros; moving_variance: (channels,), ones; both fixed.

    Raises:
        ValueError: an axis that the input does not have, or of unknown size.

    Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167

    >>> params, apply_fn = BatchNormalization().init(jax.random.key(0), (None, 3))
    >>> y, effects = apply_fn.forward(params, jnp.array([[0.0, 1, 2], [2, 3, 4]]), train=True)
    >>> y[0].round(2), effects.fixed["moving_mean"].round(2)
    (Array([-1., -1., -1.], dtype=float32), Array([0.01, 0.02, 0.03], dtype=float32))
    """

    axis: int = -1
    momentum: float = 0.99
    epsilon: float = 0.001
    center: bool = True
    scale: bool = True
    beta_initializer: Any = "zeros"
    gamma_initializer: Any = "ones"
    moving_mean_initializer: Any = "zeros"
    moving_variance_initializer: Any = "ones"
    beta_regularizer: Any = None
    gamma_regularizer: Any = None
    beta_constraint: Any = None
    gamma_constraint: Any = None

    # under jit the batch is always the whole one, which is what ``synchronized`` asks for
    keras_only: ClassVar[dict[str, tuple]] = {
        "synchronized": (False, True),
        "renorm": (False,),
        "renorm_clipping": (None,),
        "renorm_momentum": (0.99,),
    }
    statistics: ClassVar[frozenset[str]] = frozenset({"moving_mean", "moving_variance"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.axis, list | tuple) and len(self.axis) == 1:
            self._set(axis=self.axis[0])  # the form that Keras 2 wrote
        if isinstance(self.axis, bool) or not hasattr(self.axis, "__index__"):
            raise ValueError(f"BatchNormalization: axis={self.axis!r} is not a whole number; give -1 or 1, say")
        for what in ("momentum", "epsilon"):
            value = getattr(self, what)
            if isinstance(value, bool | str) or not hasattr(value, "__float__") or not 0 <= float(value) <= 1:
                raise ValueError(f"BatchNormalization: {what}={value!r} is not legal; give a number from 0 to 1")
            self._set(**{what: float(value)})

    @property
    def leaves(self) -> dict[str, str]:
        names = ["gamma"] * self.scale + ["beta"] * self.center + ["moving_mean", "moving_variance"]
        return {name: name for name in names}

    def output_shape(self, input_shape: Any) -> Shape:
        shape = as_shape(input_shape, "BatchNormalization")
        self._axis(shape)
        return shape

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        channels = input_shape[self._axis(input_shape)]
        if channels is None:
            raise ValueError(
                f"BatchNormalization: axis {self.axis} of input shape {input_shape} is None; "
                "the params' shapes depend on it, so give a number"
            )
        return {leaf: Weight((channels,), getattr(self, f"{leaf}_initializer")) for leaf in self.leaves}

    def _axis(self, shape: Shape) -> int:
        if len(shape) < 2:
            raise ValueError(f"BatchNormalization: input of shape {shape} has no channels; give (batch, ..., channels)")
        axis = self.axis + len(shape) * (self.axis < 0)
        if not 0 < axis < len(shape):
            raise ValueError(
                f"BatchNormalization: axis={self.axis} is no channel axis of input shape {shape}; "
                f"legal: 1 to {len(shape) - 1}, or -1"
            )
        return axis

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        axis = self._axis(x.shape)
        mean, variance = params["moving_mean"], params["moving_variance"]
        wide = promote(x.dtype, jnp.float32)
        statistics: Params = {}
        if train and self.trainable:
            others = tuple(i for i in range(x.ndim) if i != axis)
            if 0 in (x.shape[i] for i in others):
                raise ValueError(f"{self.label}: input of shape {x.shape} is empty and has no statistics to train on")
            batch_mean, batch_variance = _moments(x.astype(wide), others)
            for leaf, new in (("moving_mean", batch_mean), ("moving_variance", batch_variance)):
                old = params[leaf]
                moved = old.astype(wide) * self.momentum + lax.stop_gradient(new) * (1 - self.momentum)
                statistics[leaf] = moved.astype(old.dtype)
            mean, variance = batch_mean, batch_variance
        shape = [1] * x.ndim
        shape[axis] = -1
        factor = lax.rsqrt(variance.astype(wide) + self.epsilon)
        if self.scale:
            factor = factor * params["gamma"].astype(wide)
        y = (x.astype(wide) - mean.astype(wide).reshape(shape)) * factor.reshape(shape)
        if self.center:
            y = y + params["beta"].astype(wide).reshape(shape)
        return y.astype(x.dtype), statistics


def _moments(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Give mean and biased variance, the variance from deviations: squares minus square would cancel."""
    mean = x.mean(axes)
    keep = [1 if i in axes else n for i, n in enumerate(x.shape)]
    return mean, jnp.square(x - mean.reshape(keep)).mean(axes)
