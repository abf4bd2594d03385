"""BatchNormalization: statistics of the batch in training, running statistics at inference."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxconv.contract import POINTWISE, Effects, Layer, Params, Shape, Weight, Window, layers, register
from jaxconv.contract.masks import as_mask, layouts
from jaxconv.dtypes import widen
from jaxconv.layers.moments import affine, moments, normalize, spread
from jaxconv.layers.options import as_number, known_sizes
from jaxconv.registry import nearest

CLIPS = ("rmax", "rmin", "dmax")


@register(layers)
class BatchNormalization(Layer):
    """Normalize each channel: ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``.

    In training, mean and (biased) variance are those of the batch over all other axes, and the running statistics are
    updated: ``moving = momentum * moving + (1 - momentum) * batch``; the new ones are in ``effects.fixed``. The running
    statistics are used at inference, and always with ``trainable=False``, as in Keras. Statistics are at least float32.
    Masked steps do not count, as in Keras. Under ``jit`` with a batch sharded over devices the statistics are those of
    the whole batch; inside ``shard_map`` they are those of each shard.

    With ``renorm`` (batch renormalization) the result in training is ``r * y + d``, before gamma and beta, with
    ``r = stddev / renorm_stddev`` and ``d = (mean - renorm_mean) / renorm_stddev`` clipped and not differentiated, so
    that training computes nearly the same as inference. The moving variance is ``moving_stddev^2 - epsilon``.

    Args:
        axis: the channel axis: -1 for channels_last, 1 for channels_first.
        momentum: the fraction of the old running value that is kept in each update.
        epsilon: added to the variance.
        center, scale: whether to have beta and gamma.
        *_initializer, *_regularizer, *_constraint: as in every layer.
        renorm: whether to correct the statistics of the batch towards the running ones.
        renorm_clipping: {"rmax": ..., "rmin": ..., "dmax": ...}: bounds of r and of the absolute value of d, all or
            some; None means no bounds.
        renorm_momentum: the momentum of renorm_mean and renorm_stddev.
        synchronized: accepted for compatibility: statistics are always those of the whole batch.

    Shapes: Any shape of rank 2 or more, kept.

    Params:
        gamma: (channels,), ones. beta: (channels,), zeros.
        moving_mean: (channels,), zeros; moving_variance: (channels,), ones; both fixed.
        moving_stddev, renorm_stddev: (channels,), root of ``moving_variance_initializer``; renorm_mean: (channels,),
            ``moving_mean_initializer``; all fixed, only with ``renorm``.

    Raises:
        ValueError: an axis that the input does not have, or of unknown size; bounds that are not valid.

    Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167; renorm: Ioffe 2017,
    https://arxiv.org/abs/1702.03275

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
    renorm: bool = False
    renorm_clipping: Any = None
    renorm_momentum: float = 0.99
    synchronized: bool = False

    min_rank: ClassVar[int] = 2
    checks: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(("momentum", "epsilon", "renorm_momentum"), functools.partial(as_number, least=0, most=1)),
        "renorm_clipping": lambda value, *_: _bounds(value),
    }
    statistics: ClassVar[frozenset[str]] = frozenset(
        {"moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev"}
    )

    output_values: ClassVar[str | None] = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.axis, list | tuple) and len(self.axis) == 1:
            self._set(axis=self.axis[0])  # the form that Keras 2 wrote
        if isinstance(self.axis, bool) or not hasattr(self.axis, "__index__"):
            raise ValueError(f"BatchNormalization: axis={self.axis!r} is not an integer; give one like -1 or 1")

    @property
    def leaves(self) -> dict[str, str]:
        names = ["gamma"] * self.scale + ["beta"] * self.center + ["moving_mean", "moving_variance"]
        if self.renorm:
            names += ["moving_stddev", "renorm_mean", "renorm_stddev"]
        return {name: name for name in names}

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        self._axis(input_shape)
        return (POINTWISE,) * (len(input_shape) - 1)  # at inference; in training the statistics are the batch's

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        sizes = known_sizes((self._axis(input_shape),), input_shape, "BatchNormalization")
        return {leaf: Weight(sizes, self._initializer(leaf)) for leaf in self.leaves}

    def _initializer(self, leaf: str) -> Any:
        if leaf == "renorm_mean":
            return self.moving_mean_initializer
        if leaf.endswith("stddev"):
            return lambda *arguments: jnp.sqrt(self.moving_variance_initializer(*arguments))
        return getattr(self, f"{leaf}_initializer")

    def _axis(self, shape: Shape) -> int:
        axis = self.axis + len(shape) * (self.axis < 0)
        if not 0 < axis < len(shape):
            what = f"axis={self.axis} is not a channel axis of input shape {shape}"
            raise ValueError(f"BatchNormalization: {what}; expected 1 to {len(shape) - 1}, or -1")
        return axis

    def mask_layouts(self, rank: int) -> list[tuple[int, ...]]:
        own = layouts(rank, self.axis % rank)  # the channel axis is an option here, not a data format
        return own + [axes for axes in layouts(rank, rank - 1) if axes not in own]

    def read_mask(self, mask: Any, shape: Any) -> Any:
        # as in Keras, a size of 1 in the mask broadcasts
        return None if mask is None else as_mask(mask, shape, self.mask_layouts(len(shape)), self.label, broadcast=True)

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        axis, wide = self._axis(x.shape), widen(x)
        if not (train and self.trainable):
            mean, variance = (spread(params[leaf], (axis,), wide) for leaf in ("moving_mean", "moving_variance"))
            y = (wide - mean) * lax.rsqrt(variance + self.epsilon)
            return affine(y, params, (axis,)).astype(x.dtype), Effects()
        others = tuple(i for i in range(x.ndim) if i != axis)
        if 0 in (x.shape[i] for i in others):
            raise ValueError(f"{self.label}: input of shape {x.shape} is empty and has no statistics to train on")
        own = moments(wide, others, mask)
        mean, variance = (moment.reshape(-1) for moment in own)
        gamma, beta = (
            params[leaf].astype(wide.dtype) if leaf in params else jnp.full((), value, wide.dtype)
            for leaf, value in (("gamma", 1), ("beta", 0))
        )
        if self.renorm:
            r, d = self._correction(params, mean, variance)
            gamma, beta = gamma * r, beta + gamma * d
        scale, offset = (spread(v, (axis,), wide) if v.ndim else v for v in (gamma, beta))
        y = normalize(wide, scale, offset, mask, own, others, self.epsilon)
        statistics = self._updated(params, lax.stop_gradient(mean), lax.stop_gradient(variance))
        return y.astype(x.dtype), Effects(statistics)

    def _correction(self, params: Params, mean: Array, variance: Array) -> tuple[Array, Array]:
        """Return r and d, which correct the standardized values of a batch to the running mean and deviation."""
        least = jnp.sqrt(jnp.asarray(self.epsilon, mean.dtype))
        deviation = jnp.maximum(params["renorm_stddev"].astype(mean.dtype), least)
        r = jnp.sqrt(variance + self.epsilon) / deviation
        d = (mean - params["renorm_mean"].astype(mean.dtype)) / deviation
        bounds = dict(self.renorm_clipping or ())
        r = jnp.clip(r, bounds.get("rmin"), bounds.get("rmax"))
        if "dmax" in bounds:
            d = jnp.clip(d, -bounds["dmax"], bounds["dmax"])
        return lax.stop_gradient(r), lax.stop_gradient(d)

    def _updated(self, params: Params, mean: Array, variance: Array) -> Params:
        """Return the running statistics after this batch, each in its own type."""

        def average(leaf: str, new: Array, momentum: float) -> Array:
            return params[leaf].astype(new.dtype) * momentum + new * (1 - momentum)

        updated = {"moving_mean": average("moving_mean", mean, self.momentum)}
        if self.renorm:
            stddev = jnp.sqrt(variance + self.epsilon)
            updated["renorm_mean"] = average("renorm_mean", mean, self.renorm_momentum)
            updated["renorm_stddev"] = average("renorm_stddev", stddev, self.renorm_momentum)
            updated["moving_stddev"] = average("moving_stddev", stddev, self.momentum)
            updated["moving_variance"] = jax.nn.relu(jnp.square(updated["moving_stddev"]) - self.epsilon)
        else:
            updated["moving_variance"] = average("moving_variance", variance, self.momentum)
        return {leaf: new.astype(params[leaf].dtype) for leaf, new in updated.items()}

    def get_config(self) -> dict[str, Any]:
        clipping = None if self.renorm_clipping is None else dict(self.renorm_clipping)
        return super().get_config() | {"renorm_clipping": clipping}


def _bounds(clipping: Any) -> tuple[tuple[str, float], ...] | None:
    """Return the bounds of renorm as a tuple of pairs, which is hashable, or None for no bounds."""
    if clipping is None or len(clipping) == 0:
        return None
    where = "BatchNormalization"
    if isinstance(clipping, tuple):
        clipping = dict(clipping)  # the result of this function
    if not isinstance(clipping, Mapping):
        raise TypeError(f'{where}: renorm_clipping={clipping!r} is not a mapping; give e.g. {{"rmax": 3, "dmax": 5}}')
    bounds = {}
    for name, bound in clipping.items():
        if name not in CLIPS:
            raise ValueError(f"{where}: renorm_clipping has {name!r}; {nearest(str(name), CLIPS)}")
        if bound is not None:
            bounds[name] = as_number(bound, f"renorm_clipping[{name!r}]", where, 0)
    low, high = bounds.get("rmin", 0), bounds.get("rmax", float("inf"))
    if low > high:
        raise ValueError(f"{where}: renorm_clipping has rmin={low} above rmax={high}; give rmin <= rmax")
    return tuple(sorted(bounds.items())) or None
