"""Rescaling and Normalization: fixed affine maps of the input, given as options or measured on data."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxconv.contract import POINTWISE, Effects, Layer, Params, Shape, Window, as_shape, layers, register
from jaxconv.errors import explain
from jaxconv.initializers.frozen_array import FrozenArray
from jaxconv.layers.options import as_axis, input_axes, known_sizes


def _constant(value: Any, what: str, where: str) -> FrozenArray:
    """Return a number, or nested lists of numbers, as a comparable and hashable value, stored as float64."""
    try:
        frozen = FrozenArray.of(value, f"{where}: {what}")
        numbers = frozen.numpy().astype(np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{where}: {what}={value!r} is not valid; give a number, or an array of numbers") from None
    if frozen.dtype == "bool" or not np.isfinite(numbers).all():
        raise ValueError(f"{where}: {what}={value!r} is not valid; give finite numbers")
    return FrozenArray.of(numbers, what)


@register(layers)
class Rescaling(Layer):
    """Compute ``x * scale + offset``: ``Rescaling(1 / 127.5, -1)`` maps images of 0 to 255 to -1 to 1.

    Computed in at least float32, then cast. Differs deliberately: the channel axis is an option, while Keras reads it
    from the config file; and it applies to ``offset`` as well as ``scale``.

    Args:
        scale: factor: a number, one number for each channel, or an array that broadcasts against the last axes.
        offset: added after scaling; the same forms.
        data_format: the channel axis, for one number for each channel: "channels_last" or "channels_first".

    Shapes: Any shape, kept.

    Raises:
        TypeError: a scale or offset that is neither a number nor an array of numbers.
        ValueError: one that is not finite, or does not fit the input.

    >>> params, apply_fn = Rescaling(1 / 127.5, -1).init(jax.random.key(0), (None, 3))
    >>> apply_fn(params, jnp.array([[0.0, 127.5, 255.0]]))
    Array([[-1.,  0.,  1.]], dtype=float32)
    """

    scale: Any
    offset: Any = 0.0
    data_format: str | None = dataclasses.field(default="channels_last", kw_only=True)

    promote_16_bit: ClassVar[bool] = True
    beyond_keras: ClassVar[frozenset[str]] = frozenset({"data_format"})
    checks: ClassVar[dict[str, Any]] = {"scale": _constant, "offset": _constant}

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        shape = input_shape
        for what in ("scale", "offset"):
            own = getattr(self, what).shape
            full = self._full_shape(own, len(shape))
            if len(full) != len(shape) or any(n not in (1, size) for n, size in zip(full, shape, strict=True) if size):
                reason = f"{what} of shape {own} does not fit input of shape {shape} under {self.data_format}"
                allowed = "give a number, one for each channel, or an array that broadcasts against the last axes"
                raise ValueError(f"Rescaling: {reason}; {allowed}")
        return (POINTWISE,) * (len(shape) - 1)

    def _full_shape(self, own: tuple[int, ...], rank: int) -> tuple[int, ...]:
        """Return the shape of a constant with the axes of an input of this rank."""
        if self.data_format == "channels_first" and len(own) == 1:
            own = (*own, *(1,) * (rank - 2))
        return (1,) * (rank - len(own)) + own

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        scale, offset = (
            jnp.asarray(constant.numpy().reshape(self._full_shape(constant.shape, x.ndim)), x.dtype)
            for constant in (self.scale, self.offset)
        )
        return (x * scale + offset).astype(self.policy.compute), Effects()


@register(layers)
class Normalization(Layer):
    """Shift and scale by statistics of the data: ``(x - mean) / sqrt(variance)``.

    ``Normalization().adapt(data)`` measures them. A layer is immutable, so ``adapt`` returns a new one, with mean and
    variance as its options: they are in its config and equality, and not in params. Differs deliberately: a layer
    without mean and variance raises an error; Keras's returns its input unchanged. Computed in at least float32, then
    cast. A standard deviation below 1e-7 counts as 1e-7.

    Args:
        axis: axis or axes with separate statistics, such as the channels; the others are averaged over. None means one
            mean and one variance for all entries.
        mean, variance: a number, or an array along the axes in order; both or neither.
        invert: whether to compute the inverse, ``x * sqrt(variance) + mean``.

    Shapes: Any shape that has the axes, kept.

    Raises:
        TypeError: an axis that is not an integer; a mean that is neither a number nor an array of numbers.
        ValueError: only one of mean and variance, different shapes, or negative variance; an input that does not fit;
            a call without statistics.

    >>> layer = Normalization().adapt(np.array([[0.0, 10.0], [2.0, 30.0]]))
    >>> params, apply_fn = layer.init(jax.random.key(0), (None, 2))
    >>> apply_fn(params, jnp.array([[2.0, 10.0]]))
    Array([[ 1., -1.]], dtype=float32)
    """

    axis: Any = -1
    mean: Any = None
    variance: Any = None
    invert: bool = False

    promote_16_bit: ClassVar[bool] = True
    least: ClassVar[float] = 1e-7  # Keras's epsilon

    def __post_init__(self) -> None:
        super().__post_init__()
        axis = () if self.axis in (None, (), []) else as_axis(self.axis, "axis", "Normalization")
        self._set(axis=axis if isinstance(axis, tuple) else (axis,), invert=bool(self.invert))
        given = [what for what in ("mean", "variance") if getattr(self, what) is not None]
        if len(given) == 1:
            raise ValueError(f"Normalization: only {given[0]} is given; give both mean and variance, or neither")
        for what in given:
            self._set(**{what: _constant(getattr(self, what), what, "Normalization")})
        if not given:
            return
        if self.mean.shape != self.variance.shape or len(self.mean.shape) > len(self.axis):
            reason = f"mean of shape {self.mean.shape} and variance of shape {self.variance.shape} do not fit"
            raise ValueError(f"Normalization: {reason} axis={self.axis}; give two numbers, or arrays along those axes")
        if (self.variance.numpy() < 0).any():
            raise ValueError(f"Normalization: variance={self.variance.tolist()} is negative; give at least 0")

    def _axes(self, shape: Shape) -> tuple[int, ...]:
        return input_axes(self.axis, shape, "Normalization") if self.axis else ()

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        shape, axes = input_shape, self._axes(input_shape)
        if self.mean is None:
            raise ValueError("Normalization: mean and variance are not known; give both, or use adapt(data)")
        own = self.mean.shape
        sizes = [shape[axis] for axis in axes[len(axes) - len(own) :]]
        if any(size not in (None, n) and n != 1 for size, n in zip(sizes, own, strict=True)):
            reason = f"mean of shape {own} does not fit axis={self.axis} of input shape {shape}"
            raise ValueError(f"Normalization: {reason}; that input needs {tuple(sizes)}")
        return (POINTWISE,) * (len(shape) - 1)

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        axes = self._axes(x.shape)
        shape = [1] * x.ndim
        for axis, size in zip(axes[len(axes) - len(self.mean.shape) :], self.mean.shape, strict=True):
            shape[axis] = size
        mean = jnp.asarray(self.mean.numpy().reshape(shape), x.dtype)
        deviation = jnp.asarray(np.sqrt(self.variance.numpy()).clip(self.least).reshape(shape), x.dtype)
        y = x * deviation + mean if self.invert else (x - mean) / deviation
        return y.astype(self.policy.compute), Effects()

    def adapt(self, data: Any) -> Self:
        """Return a copy of this layer with the mean and variance of some data.

        Args:
            data: an array with batch first, or an iterable of such arrays or of tuples that begin with one, such as
                ``(x, y)``. An array on disk is read in parts. Sums are computed in float64.

        Raises:
            TypeError: data of another type.
            ValueError: no data, parts of different shapes, numbers that are not finite.
        """
        count, mean, square = 0, np.zeros(()), np.zeros(())  # square: the sum of squared deviations
        sizes: tuple[int, ...] | None = None
        for part in _parts(data):
            shape = as_shape(part, "Normalization.adapt")
            axes = self._axes(shape)
            own = known_sizes(axes, shape, "Normalization.adapt")
            if sizes not in (None, own):
                what = f"parts have sizes {sizes} and {own} along axis={self.axis}"
                raise ValueError(f"Normalization.adapt: {what}; they must be equal")
            sizes, others = own, tuple(axis for axis in range(part.ndim) if axis not in axes)
            number = part.size // max(int(np.prod(own)), 1)
            if number == 0:
                continue
            part, total = part.astype(np.float64), count + number
            difference = part.mean(others) - mean
            square = square + part.var(others) * number + difference**2 * (count * number / total)
            mean, count = mean + difference * (number / total), total
        if count == 0:
            raise ValueError("Normalization.adapt: the data is empty; give at least one sample")
        with explain("Normalization.adapt: the data"):
            return dataclasses.replace(self, mean=mean, variance=square / count)


def _parts(data: Any) -> Iterator[np.ndarray]:
    """Yield an array in parts of 4096 samples, or the inputs of batches."""
    if hasattr(data, "shape") and hasattr(data, "__getitem__"):
        if not data.shape:
            raise TypeError("Normalization.adapt: data is a single number; give an array with batch first")
        for start in range(0, data.shape[0], 4096):
            yield np.asarray(data[start : start + 4096])
        return
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise TypeError(f"Normalization.adapt: data={data!r} is neither an array nor an iterable of arrays")
    for batch in data:
        x = batch[0] if isinstance(batch, tuple) else batch
        if not getattr(x, "shape", ()):
            raise TypeError(f"Normalization.adapt: data contains {x!r}, which is not an array with batch first")
        yield np.asarray(x)
