"""LocallyConnected1D, 2D and 3D: convolutions with a separate kernel for each output position, as in Keras 2."""

import dataclasses
import math
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from jaxconv.contract import Params, Shape, Weight, layers, register
from jaxconv.geometry import Geometry
from jaxconv.kernels.windowed import patches
from jaxconv.layers.convolving import Convolving
from jaxconv.layers.options import known
from jaxconv.layers.sharding import sharded_like
from jaxconv.ops.operands import dimension_numbers, pad


@dataclasses.dataclass(frozen=True)
class BaseLocallyConnected(Convolving):
    """A convolution without shared weights, of any rank.

    The layer of Keras 2, argument for argument, with its weights in the layout of its ``implementation=1``. Beyond it:
    any padding, and one layout of the weights for both data formats.

    Args:
        filters: number of output channels.
        kernel_size, strides, padding, padding_mode: as in :class:`~jaxconv.Conv1D`.
        data_format, activation, use_bias, initializers, regularizers, constraints: as in :class:`~jaxconv.Conv1D`.

    Shapes: (batch, *spatial, channels) -> (batch, *new_spatial, filters).

    Params:
        kernel: (positions, taps * channels, filters), ``kernel_initializer``; ``positions`` is the product of the
            output's spatial lengths.
        bias: (\\*new_lengths, filters), ``bias_initializer``; absent without ``use_bias``.

    Raises:
        ValueError: options or an input shape that are not valid; a length that is unknown at ``init``.

    Source: https://www.tensorflow.org/versions/r2.15/api_docs/python/tf/keras/layers/LocallyConnected1D

    >>> LocallyConnected2D(6, 3).output_shape((None, 10, 9, 3))
    (None, 8, 7, 6)
    """

    filters: int
    kernel_size: Any
    strides: Any = 1
    padding: Any = "valid"
    data_format: str | None = None
    activation: Any = None
    use_bias: bool = True
    kernel_initializer: Any = "glorot_uniform"
    bias_initializer: Any = "zeros"
    kernel_regularizer: Any = None
    bias_regularizer: Any = None
    activity_regularizer: Any = None
    kernel_constraint: Any = None
    bias_constraint: Any = None
    padding_mode: str = dataclasses.field(default="zeros", kw_only=True)

    beyond_keras: ClassVar[frozenset[str]] = frozenset({"padding_mode"})
    # Keras 2 had three implementations; the weights of implementation 1 have the shapes below
    keras_only: ClassVar[dict[str, tuple]] = {"implementation": (1,)}

    def filter_axes(self, leaf: str) -> tuple[int, ...]:
        return (1,) if leaf == "kernel" else ()

    def _known_lengths(self, lengths: Shape) -> tuple[int, ...]:
        """Return the spatial lengths of the output. Raises ValueError where one is unknown."""
        out = self.output_lengths(lengths)
        if not known(out):
            what = f"{type(self).__name__}: a length in {lengths} is None"
            raise ValueError(f"{what}; the number of kernels depends on it, so give a number")
        return tuple(out)

    def bias_shape(self, channels: int, lengths: Shape) -> tuple[int, ...]:
        return (*self._known_lengths(lengths), self.filters)

    def kernels(self, channels: int, lengths: Shape) -> dict[str, Weight]:
        positions, taps = math.prod(self._known_lengths(lengths)), math.prod(self.kernel_size) * channels
        return {"kernel": Weight((positions, taps, self.filters), self.kernel_initializer, True)}

    def convolve(self, params: Params, x: Array) -> Array:
        axes, ones = dimension_numbers(self.rank, str(self.data_format)), (1,) * self.rank
        lengths = tuple(x.shape[axis] for axis in axes[2:])
        out = self._known_lengths(lengths)
        pads = tuple(w.pads(n) for w, n in zip(self.spatial_windows(), lengths, strict=True))
        if self.padding_mode != "zeros":
            x = pad(type(self).__name__, x, self.padding_mode, pads, axes[2:])
            lengths, pads = tuple(x.shape[axis] for axis in axes[2:]), ((0, 0),) * self.rank
        geometry = Geometry(lengths, self.kernel_size, self.strides, pads, ones, ones, 1, axes, axes, axes)
        taps = jnp.transpose(patches(x, geometry), (axes[0], *axes[2:], axes[1]))  # as the kernel's second axis
        kernel = sharded_like(params["kernel"].reshape(*out, -1, self.filters), taps, range(1, self.rank + 1))
        places = "xyz"[: self.rank]
        y = jnp.einsum(f"b{places}t,{places}tf->b{places}f", taps, kernel)
        return y if self.data_format == "channels_last" else jnp.moveaxis(y, -1, 1)


@register(layers)
class LocallyConnected1D(BaseLocallyConnected, rank=1):
    """Convolve over one axis, such as time, with a separate kernel for each output position."""


@register(layers)
class LocallyConnected2D(BaseLocallyConnected, rank=2):
    """Convolve over the rows and columns of an image with a separate kernel for each output position."""


@register(layers)
class LocallyConnected3D(BaseLocallyConnected, rank=3):
    """Convolve over three axes with a separate kernel for each output position (not in Keras)."""
