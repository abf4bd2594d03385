"""GroupNormalization and InstanceNormalization: each sample is normalized within groups of its channels."""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from jaxconv.contract import MIXED, Effects, Layer, Params, Shape, Weight, Window, layers, register
from jaxconv.contract.masks import layouts
from jaxconv.dtypes import promote
from jaxconv.layers.moments import affine, standardize
from jaxconv.layers.options import as_one_axis, at_least_0, input_axes, known_sizes


@register(layers)
class GroupNormalization(Layer):
    """Normalize each sample within groups of neighbouring channels: mean 0 and variance 1 over group and positions.

    ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``, with a gamma and a beta for each channel. The input is
    cast to float32 at least, so that nothing overflows in float16. Masked steps do not count; in Keras they do.

    Args:
        groups: number of groups; divides the channels. -1 means one group for each channel: instance normalization.
        axis: the channel axis: -1 for channels_last, 1 for channels_first.
        epsilon: added to the variance, in squared units of the input.
        center, scale: whether to have beta and gamma.
        *_initializer, *_regularizer, *_constraint: as in every layer.

    Shapes:
        Any shape of rank 2 or more, kept.

    Params:
        gamma: (channels,), ``gamma_initializer``. beta: (channels,), ``beta_initializer``.

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
            raise ValueError(
                f"{where}: groups={groups!r} is not legal; give a positive integer, or -1 for the channels"
            )
        self._set(groups=groups.__index__())

    @property
    def leaves(self) -> dict[str, str]:
        return {name: name for name in ["gamma"] * self.scale + ["beta"] * self.center}

    def input_dtype(self, given: Any) -> Any:
        return promote(self.policy.compute, jnp.float32)

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        where = type(self).__name__
        (axis,) = input_axes(self.axis, input_shape, where)
        channels = input_shape[axis]
        if channels is not None and (channels < 1 or channels % self.groups):
            raise ValueError(
                f"{where}: input of shape {input_shape} has {channels} channels, which do not divide into "
                f"groups={self.groups}; the count must be a positive multiple of {abs(self.groups)}"
            )
        return (MIXED,) * (len(input_shape) - 1)

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        where = type(self).__name__
        sizes = known_sizes(input_axes(self.axis, input_shape, where), input_shape, where)
        return {leaf: Weight(sizes, getattr(self, f"{leaf}_initializer")) for leaf in self.leaves}

    def mask_layouts(self, rank: int) -> list[tuple[int, ...]]:
        return layouts(rank, self.axis % rank)  # the channel axis is an option here, not a data format

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        (axis,) = input_axes(self.axis, x.shape, type(self).__name__)
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
