"""LayerNormalization, RMSNormalization, UnitNormalization, GroupNormalization: each sample is normalized separately.

The result of a sample does not depend on the other samples of a batch.
"""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array, lax

from jaxconv.contract import MIXED, POINTWISE, Effects, Layer, Params, Shape, Weight, Window, layers, register
from jaxconv.contract.masks import layouts
from jaxconv.initializers import Ones
from jaxconv.layers.moments import affine, average, moments, spread, standardize
from jaxconv.layers.options import as_axis, as_one_axis, at_least_0, input_axes, known_sizes


class _WithinSample(Layer):
    """A normalization of each sample, in at least float32; masked steps do not count. Weights lie along ``axis``."""

    axis: Any
    center: bool
    scale: bool

    promote_16_bit: ClassVar[bool] = True
    checks: ClassVar[dict[str, Any]] = {"axis": as_axis, "epsilon": at_least_0}

    def _axes(self, shape: Shape) -> tuple[int, ...]:
        return input_axes(self.axis, shape, type(self).__name__)

    @property
    def leaves(self) -> dict[str, str]:
        return {name: name for name in ["gamma"] * self.scale + ["beta"] * self.center}

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        if not self.leaves:
            return {}
        sizes = known_sizes(self._axes(input_shape), input_shape, type(self).__name__)
        return {leaf: Weight(sizes, getattr(self, f"{leaf}_initializer", Ones())) for leaf in self.leaves}


class _AlongAxes(_WithinSample):
    """A normalization along one or more axes of a sample."""

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        axes = self._axes(input_shape)
        return tuple(MIXED if axis in axes else POINTWISE for axis in range(1, len(input_shape)))

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        axes = self._axes(x.shape)
        if mask is not None and all(mask.shape[axis] == 1 for axis in axes):
            mask = None  # steps are independent
        return self.normalize(params, x, axes, mask).astype(self.policy.compute), Effects()

    def normalize(self, params: Params, x: Array, axes: tuple[int, ...], where: Array | None) -> Array:
        """Normalize along ``axes``, in the type of ``x``, with statistics of the entries where ``where`` is True."""
        raise NotImplementedError


@register(layers)
class LayerNormalization(_AlongAxes):
    """Normalize each sample along ``axis``: ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``.

    Mean and (biased) variance are those of each sample over ``axis``, separately for each position on the other axes.
    The input is cast to at least float32, so that nothing overflows in float16. Differs deliberately: axes are sorted
    after negative ones are counted from the front (Keras sorts -1 before 1), and the batch axis is an error.

    Args:
        axis: axis, or axes, that are normalized together; negative ones count from the end.
        epsilon: added to the variance, in squared units of the input.
        center, scale: whether to have beta and gamma.
        *_initializer, *_regularizer, *_constraint: as in every layer.
        rms_scaling: Keras's deprecated variant ``gamma * x / sqrt(variance + epsilon)``: no beta, and gamma regardless
            of ``scale``. It does not divide by the root mean square; :class:`RMSNormalization` does.

    Shapes: Any shape of rank 2 or more, kept.

    Params: gamma: sizes of the axes, in order, ``gamma_initializer``. beta: the same, ``beta_initializer``.

    Raises:
        TypeError: an axis that is not an integer.
        ValueError: an axis that the input does not have, that is the batch, or of unknown size.

    Source: Ba, Kiros and Hinton 2016, https://arxiv.org/abs/1607.06450

    >>> params, apply_fn = LayerNormalization(epsilon=0).init(jax.random.key(0), (None, 2))
    >>> apply_fn(params, jnp.array([[1.0, 3.0], [20.0, 10.0]]))
    Array([[-1.,  1.],
           [ 1., -1.]], dtype=float32)
    """

    axis: Any = -1
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: Any = "zeros"
    gamma_initializer: Any = "ones"
    beta_regularizer: Any = None
    gamma_regularizer: Any = None
    beta_constraint: Any = None
    gamma_constraint: Any = None
    rms_scaling: bool = dataclasses.field(default=False, kw_only=True)

    output_values: ClassVar[str | None] = "linear"

    @property
    def leaves(self) -> dict[str, str]:
        gamma, beta = self.scale or self.rms_scaling, self.center and not self.rms_scaling
        return {name: name for name in ["gamma"] * gamma + ["beta"] * beta}

    def normalize(self, params: Params, x: Array, axes: tuple[int, ...], where: Array | None) -> Array:
        if self.rms_scaling:
            return affine(x * lax.rsqrt(moments(x, axes, where)[1] + self.epsilon), params, axes)
        return affine(standardize(x, axes, self.epsilon, where), params, axes)


@register(layers)
class RMSNormalization(_AlongAxes):
    """Divide each sample by its root mean square along ``axis``: ``scale * x / sqrt(mean(x^2) + epsilon)``.

    Differs deliberately: ``scale`` is applied along ``axis``; Keras applies it along the last axes, regardless of
    ``axis``.

    Args:
        axis: axis, or axes, that are normalized together; negative ones count from the end.
        epsilon: added to the mean square, in squared units of the input.

    Shapes: Any shape of rank 2 or more, kept.

    Params: scale: sizes of the axes, in order, ones.

    Raises:
        TypeError: an axis that is not an integer.
        ValueError: an axis that the input does not have, that is the batch, or of unknown size.

    Source: Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467

    >>> params, apply_fn = RMSNormalization(epsilon=0).init(jax.random.key(0), (None, 2))
    >>> apply_fn(params, jnp.array([[2.0, 2.0]]))
    Array([[1., 1.]], dtype=float32)
    """

    axis: Any = -1
    epsilon: float = 1e-6

    leaves: ClassVar[dict[str, str]] = {"scale": "scale"}

    def normalize(self, params: Params, x: Array, axes: tuple[int, ...], where: Array | None) -> Array:
        inverse = lax.rsqrt(average(jnp.square(x), axes, where) + self.epsilon)
        return x * inverse * spread(params["scale"], axes, x)


@register(layers)
class UnitNormalization(_AlongAxes):
    """Divide each sample by its Euclidean norm along ``axis``; a norm below 1e-12 counts as 1e-12.

    Differs from Keras only in the derivative at zero, which is finite here.

    Args:
        axis: axis, or axes, that are normalized together; negative ones count from the end.

    Shapes: Any shape of rank 2 or more, kept.

    Raises:
        TypeError: an axis that is not an integer.
        ValueError: an axis that the input does not have, or that is the batch.

    >>> params, apply_fn = UnitNormalization().init(jax.random.key(0), (None, 2))
    >>> apply_fn(params, jnp.array([[3.0, 4.0]]))
    Array([[0.6, 0.8]], dtype=float32)
    """

    axis: Any = -1

    leaves: ClassVar[dict[str, str]] = {}
    least: ClassVar[float] = 1e-12

    def normalize(self, params: Params, x: Array, axes: tuple[int, ...], where: Array | None) -> Array:
        real = x if where is None else jnp.where(where, x, jnp.zeros((), x.dtype))
        square = jnp.square(real).sum(axes, keepdims=True)
        return x * lax.rsqrt(jnp.maximum(square, self.least**2))


@register(layers)
class GroupNormalization(_WithinSample):
    """Normalize each sample within groups of neighbouring channels: mean 0 and variance 1 over group and positions.

    ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``, with a gamma and a beta for each channel. The input is
    cast to at least float32, so that nothing overflows in float16. Masked steps do not count; in Keras they do.

    Args:
        groups: number of groups; divides the channels. -1 means one group for each channel: instance normalization.
        axis: the channel axis: -1 for channels_last, 1 for channels_first.
        epsilon: added to the variance, in squared units of the input.
        center, scale: whether to have beta and gamma.
        *_initializer, *_regularizer, *_constraint: as in every layer.

    Shapes: Any shape of rank 2 or more, kept.

    Params: gamma: (channels,), ``gamma_initializer``. beta: (channels,), ``beta_initializer``.

    Raises:
        TypeError: an axis that is not an integer.
        ValueError: groups that do not divide the channels; an axis that the input does not have, or of unknown size.

    Source: Wu and He 2018, https://arxiv.org/abs/1803.08494

    >>> params, apply_fn = GroupNormalization(2, epsilon=0).init(jax.random.key(0), (None, 4))
    >>> apply_fn(params, jnp.array([[1.0, 3.0, 40.0, 20.0]]))
    Array([[-1.,  1.,  1., -1.]], dtype=float32)
    """

    groups: int = 32
    axis: int = -1
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: Any = "zeros"
    gamma_initializer: Any = "ones"
    beta_regularizer: Any = None
    gamma_regularizer: Any = None
    beta_constraint: Any = None
    gamma_constraint: Any = None

    checks: ClassVar[dict[str, Any]] = {"axis": as_one_axis, "epsilon": at_least_0}
    output_values: ClassVar[str | None] = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        where, groups = type(self).__name__, self.groups
        if isinstance(groups, bool) or not hasattr(groups, "__index__") or (groups < 1 and groups != -1):
            raise ValueError(f"{where}: groups={groups!r} is not valid; give a positive integer or -1 for the channels")
        self._set(groups=groups.__index__())

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        where, (axis,) = type(self).__name__, self._axes(input_shape)
        channels = input_shape[axis]
        if channels is not None and (channels < 1 or channels % self.groups):
            what = f"{where}: input of shape {input_shape} has {channels} channels, which do not divide into"
            raise ValueError(f"{what} groups={self.groups}; give a positive multiple of {abs(self.groups)}")
        return (MIXED,) * (len(input_shape) - 1)

    def mask_layouts(self, rank: int) -> list[tuple[int, ...]]:
        return layouts(rank, self.axis % rank)  # the channel axis is an option here, not a data format

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        (axis,) = self._axes(x.shape)
        groups = x.shape[axis] if self.groups == -1 else self.groups
        grouped = x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])
        reduced = tuple(i for i in range(1, grouped.ndim) if i != axis)
        mask = None if mask is None else jnp.expand_dims(mask, axis)  # the one channel axis becomes two
        y = standardize(grouped, reduced, self.epsilon, mask).reshape(x.shape)
        return affine(y, params, (axis,)).astype(self.policy.compute), Effects()


@register(layers)
class InstanceNormalization(GroupNormalization):
    """Normalize each channel of each sample over its positions: ``GroupNormalization(groups=-1)``.

    Not in Keras's core. Arguments, params and errors are those of :class:`GroupNormalization` without ``groups``.

    Source: Ulyanov, Vedaldi and Lempitsky 2016, https://arxiv.org/abs/1607.08022

    >>> params, apply_fn = InstanceNormalization(epsilon=0).init(jax.random.key(0), (None, 2, 1))
    >>> apply_fn(params, jnp.array([[[1.0], [3.0]]])).ravel()
    Array([-1.,  1.], dtype=float32)
    """

    groups: int = dataclasses.field(default=-1, init=False, repr=False)
