"""The convolution functions of arrays, for any number of spatial axes and for one, two or three of them."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import jax.numpy as jnp
from jax import Array

from jaxconv import data_format as formats
from jaxconv import kernels
from jaxconv.ops.operands import (
    as_padding_mode,
    check_mode,
    conv_geometry,
    other_format,
    over_batch,
    result_type,
    same_type,
    spatial_rank,
    transposed_geometry,
)

P = ParamSpec("P")


def of_rank(
    compute: Callable[Concatenate[str, int | None, P], Array], rank: int | None
) -> Callable[[Callable[[], None]], Callable[P, Array]]:
    """Copy to ``compute`` the name and docstring of the decorated stub, for kernels of one rank, or of any if None."""

    _, _, *parameters = inspect.signature(compute).parameters.values()
    signature = inspect.Signature(parameters, return_annotation=Array)

    def decorate(stub: Callable[[], None]) -> Callable[P, Array]:
        @functools.wraps(stub)
        def function(*args: P.args, **options: P.kwargs) -> Array:
            try:
                return compute(stub.__name__, rank, *args, **options)
            except TypeError:
                try:  # Python's own message for a wrong call would name compute
                    signature.bind(*args, **options)
                except TypeError as error:
                    raise TypeError(f"{stub.__name__}: {error}") from None
                raise

        function.__signature__ = signature  # type: ignore[attr-defined]
        return function

    return decorate


def convolve(
    where: str, rank: int | None, x: Any, kernel: Any, strides: Any = 1, padding: Any = "valid",
    data_format: str | None = None, dilation_rate: Any = 1, *, padding_mode: str = "zeros", precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Compute :func:`conv`, with ``where`` as the name in messages."""
    x, kernel = same_type(where, x, kernel)
    rank = spatial_rank(where, kernel, rank)
    form, mode = formats.canonical(data_format, where), as_padding_mode(padding_mode, where)
    dtype = result_type(where, kernel.dtype, preferred_element_type)

    def with_one_batch_axis(x: Array) -> Array:
        geometry = conv_geometry(where, x.shape, kernel.shape, strides, padding, form, dilation_rate)
        check_mode(where, mode, geometry.x_lengths, geometry.padding)
        return kernels.convolve(x, kernel, geometry, precision=precision, dtype=dtype, mode=mode)

    return over_batch(where, rank, x, with_one_batch_axis)


@of_rank(convolve, None)
def conv() -> None:
    """Convolve in one, two or three dimensions; the kernel's rank decides which.

    Cross-correlation, as in Keras, on each axis:
    ``y[o, f] = sum over j, c of x[o * strides + j * dilation_rate - pad, c] kernel[j, c, f]``.
    Groups are inferred: input channels divided by the kernel's. Differs from ``tf.keras.backend.conv1d``: strides and
    dilation can be combined, ``"causal"`` works in both data formats, padding can be explicit, names may have any case.

    Args:
        x: input, (\\*batch, \\*spatial, channels), or (\\*batch, channels, \\*spatial) for "channels_first", with any
            number of batch axes, or none. Real numbers are cast to the kernel's type.
        kernel: (\\*kernel_size, channels / groups, filters) in both formats.
        strides: input steps from one output to the next; one integer or one for each spatial axis.
        padding: "valid" (none), "same" (output length = length / strides, rounded up; an odd zero goes after), "causal"
            (one dimension: all zeros before); or for each spatial axis one of these names, also "causal", or a pair
            (before, after).
        data_format: "channels_last" or "channels_first"; None means ``image_data_format()``.
        dilation_rate: distance between neighbouring kernel taps, in input steps.
        padding_mode: the values of the padding: "zeros", "reflect", "replicate" or "circular".
        precision: as in ``jax.lax.conv_general_dilated``.
        preferred_element_type: type of accumulation and result: of the kernel's kind, or floating for integers; by
            default the kernel's type.

    Returns:
        (\\*batch, \\*new_spatial, filters), or (\\*batch, filters, \\*new_spatial).

    Raises:
        ValueError: an unknown name, sizes that are not positive, channels that do not divide into groups, an input
            shorter than the effective kernel, a 64-bit result while JAX computes in 32 bits.
        TypeError: complex input with a real kernel, or a result of another kind, such as integers from floats.

    Source: https://www.tensorflow.org/versions/r2.3/api_docs/python/tf/keras/backend/conv1d

    >>> x, kernel = jnp.arange(1.0, 7).reshape(6, 1), jnp.ones((3, 1, 1))
    >>> conv(x, kernel, strides=2, padding="same")[:, 0]
    Array([ 6., 12., 11.], dtype=float32)
    """


@of_rank(convolve, 1)
def conv1d() -> None:
    """Convolve over time: :func:`conv` in one dimension.

    ``x`` is (\\*batch, time, channels), ``kernel`` (kernel_size, channels / groups, filters).

    >>> conv1d(jnp.arange(1.0, 7).reshape(1, 6, 1), jnp.ones((3, 1, 1)), padding="causal")[0, :, 0]
    Array([ 1.,  3.,  6.,  9., 12., 15.], dtype=float32)
    """


@of_rank(convolve, 2)
def conv2d() -> None:
    """Convolve over an image: :func:`conv` in two dimensions.

    ``x`` is (\\*batch, rows, columns, channels), ``kernel`` (rows, columns, channels / groups, filters).

    >>> conv2d(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 5)), strides=2).shape
    (1, 3, 3, 5)
    """


@of_rank(convolve, 3)
def conv3d() -> None:
    """Convolve over a volume: :func:`conv` in three dimensions.

    ``x`` is (\\*batch, depth, rows, columns, channels), ``kernel`` (depth, rows, columns, channels / groups, filters).

    >>> conv3d(jnp.ones((1, 4, 4, 4, 2)), jnp.ones((2, 2, 2, 2, 3)), padding="same").shape
    (1, 4, 4, 4, 3)
    """


# -- as many groups as channels


def depthwise(
    where: str, rank: int | None, x: Any, kernel: Any, strides: Any = 1, padding: Any = "valid",
    data_format: str | None = None, dilation_rate: Any = 1, *, padding_mode: str = "zeros", precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Compute :func:`depthwise_conv`, with ``where`` as the name in messages."""
    rank = spatial_rank(where, kernel, rank)
    kernel = jnp.asarray(kernel)
    *taps, channels, multiplier = kernel.shape
    form, shape = formats.canonical(data_format, where), jnp.shape(x)
    axis = -1 if form == "channels_last" else -1 - rank
    if len(shape) > rank and shape[axis] != channels:
        raise ValueError(
            f"{where}: input of shape {shape} has {shape[axis]} channels and the kernel {channels}; they must be equal"
            f"{other_format(shape, rank, form, channels)}"
        )
    grouped = kernel.reshape(*taps, 1, channels * multiplier)
    types = {"precision": precision, "preferred_element_type": preferred_element_type}
    return convolve(where, rank, x, grouped, strides, padding, form, dilation_rate, padding_mode=padding_mode, **types)


@of_rank(depthwise, None)
def depthwise_conv() -> None:
    """Convolve each channel with its own kernels, in one, two or three dimensions; the kernel's rank decides which.

    Output channel ``c * depth_multiplier + m`` is input channel c convolved with ``kernel[..., c, m]``.

    Args:
        x: input, as in :func:`conv`.
        kernel: (\\*kernel_size, channels, depth_multiplier) in both formats.
        strides, padding, data_format, dilation_rate and the others: as in :func:`conv`.

    Returns:
        (\\*batch, \\*new_spatial, channels * depth_multiplier), or channels first.

    Raises:
        ValueError, TypeError: as for :func:`conv`; input and kernel with different numbers of channels.

    >>> depthwise_conv(jnp.ones((4, 2)), jnp.array([[[1.0], [2.0]]]))[0]
    Array([1., 2.], dtype=float32)
    """


@of_rank(depthwise, 1)
def depthwise_conv1d() -> None:
    """Convolve each channel of a sequence with its own kernels: :func:`depthwise_conv` in one dimension.

    >>> depthwise_conv1d(jnp.ones((2, 8, 3)), jnp.ones((3, 3, 2))).shape
    (2, 6, 6)
    """


@of_rank(depthwise, 2)
def depthwise_conv2d() -> None:
    """Convolve each channel of an image with its own kernels: :func:`depthwise_conv` in two dimensions.

    >>> depthwise_conv2d(jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 1))).shape
    (2, 6, 6, 3)
    """


@of_rank(depthwise, 3)
def depthwise_conv3d() -> None:
    """Convolve each channel of a volume with its own kernels: :func:`depthwise_conv` in three dimensions.

    >>> depthwise_conv3d(jnp.ones((2, 4, 4, 4, 3)), jnp.ones((2, 2, 2, 3, 1))).shape
    (2, 3, 3, 3, 3)
    """


def separable(
    where: str, rank: int | None, x: Any, depthwise_kernel: Any, pointwise_kernel: Any, strides: Any = 1,
    padding: Any = "valid", data_format: str | None = None, dilation_rate: Any = 1, *, padding_mode: str = "zeros",
    precision: Any = None, preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Compute :func:`separable_conv`, with ``where`` as the name in messages."""
    rank = spatial_rank(where, depthwise_kernel, rank)
    first, second = jnp.shape(depthwise_kernel), jnp.shape(pointwise_kernel)
    if second[:-2] != (1,) * rank or len(second) != rank + 2 or second[-2] != first[-2] * first[-1]:
        raise ValueError(
            f"{where}: pointwise kernel of shape {second} does not fit the depthwise kernel of shape {first}; "
            f"it must be {(*(1,) * rank, first[-2] * first[-1])} and the filters"
        )
    options = (strides, padding, data_format, dilation_rate)
    types = {"precision": precision, "preferred_element_type": preferred_element_type}
    x = depthwise(where, rank, x, depthwise_kernel, *options, padding_mode=padding_mode, **types)
    return convolve(where, rank, x, pointwise_kernel, data_format=data_format, **types)


@of_rank(separable, None)
def separable_conv() -> None:
    """Convolve each channel separately, then mix the channels: :func:`depthwise_conv`, then a convolution of one tap.

    Args:
        x: input, as in :func:`conv`.
        depthwise_kernel: (\\*kernel_size, channels, depth_multiplier).
        pointwise_kernel: (1, ..., channels * depth_multiplier, filters).
        strides, padding, data_format, dilation_rate, padding_mode: of the depthwise convolution.
        precision, preferred_element_type: of both convolutions.

    Returns:
        (\\*batch, \\*new_spatial, filters), or channels first.

    Raises:
        ValueError, TypeError: as for :func:`conv`; kernels whose shapes do not match.

    >>> separable_conv(jnp.ones((8, 3)), jnp.ones((3, 3, 2)), jnp.ones((1, 6, 5))).shape
    (6, 5)
    """


@of_rank(separable, 1)
def separable_conv1d() -> None:
    """Convolve a sequence channel by channel, then mix the channels: :func:`separable_conv` in one dimension.

    >>> separable_conv1d(jnp.ones((2, 8, 3)), jnp.ones((3, 3, 2)), jnp.ones((1, 6, 4))).shape
    (2, 6, 4)
    """


@of_rank(separable, 2)
def separable_conv2d() -> None:
    """Convolve an image channel by channel, then mix the channels: :func:`separable_conv` in two dimensions.

    >>> separable_conv2d(jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 1)), jnp.ones((1, 1, 3, 4))).shape
    (2, 6, 6, 4)
    """


@of_rank(separable, 3)
def separable_conv3d() -> None:
    """Convolve a volume channel by channel, then mix the channels: :func:`separable_conv` in three dimensions.

    >>> separable_conv3d(jnp.ones((2, 4, 4, 4, 3)), jnp.ones((2, 2, 2, 3, 1)), jnp.ones((1, 1, 1, 3, 4))).shape
    (2, 3, 3, 3, 4)
    """


# -- transposed: the map T of jaxconv.kernels


def transpose(
    where: str, rank: int | None, x: Any, kernel: Any, strides: Any = 1, padding: Any = "valid",
    output_padding: Any = None, data_format: str | None = None, dilation_rate: Any = 1, *, groups: int = 1,
    precision: Any = None, preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Compute :func:`conv_transpose`, with ``where`` as the name in messages."""
    x, kernel = same_type(where, x, kernel)
    rank = spatial_rank(where, kernel, rank)
    form = formats.canonical(data_format, where)
    dtype = result_type(where, kernel.dtype, preferred_element_type)

    def with_one_batch_axis(x: Array) -> Array:
        options = (strides, padding, output_padding, form, dilation_rate, groups)
        geometry = transposed_geometry(where, x.shape, kernel.shape, *options)
        return kernels.transpose(x, kernel, geometry, precision=precision, dtype=dtype)

    return over_batch(where, rank, x, with_one_batch_axis)


@of_rank(transpose, None)
def conv_transpose() -> None:
    """Transpose a convolution in one, two or three dimensions; the kernel's rank decides which.

    Every input step adds its multiple of the kernel to the output: ``x[o] * kernel[j]`` is added at step
    ``o * strides + j * dilation_rate``; the padding crops the edges. This is the gradient of :func:`conv` with the same
    options with respect to its input. The signature is that of ``keras.ops.conv_transpose``; additions to Keras:
    groups, strides with dilation, explicit padding.

    Args:
        x: input, (\\*batch, \\*spatial, channels), or (\\*batch, channels, \\*spatial) for "channels_first", with any
            number of batch axes, or none. Real numbers are cast to the kernel's type.
        kernel: (\\*kernel_size, filters / groups, channels) in both formats.
        strides: distance between neighbouring input steps in the output.
        padding: "valid" or "same"; or for each spatial axis a name or a pair (before, after) of steps to crop.
        output_padding: None for Keras's lengths, ``length * strides`` for "same" and ``(length - 1) * strides +
            max(effective kernel, strides)`` for "valid"; or the steps, below ``strides``, added to the shortest output.
        data_format: "channels_last" or "channels_first"; None means ``image_data_format()``.
        dilation_rate: distance between neighbouring kernel taps, in output steps.
        groups: number of channel groups; divides channels and filters.
        precision, preferred_element_type: as in :func:`conv`.

    Returns:
        (\\*batch, \\*new_spatial, filters), or (\\*batch, filters, \\*new_spatial).

    Raises:
        ValueError: an unknown name, sizes that are not positive, output_padding not below strides, channels that differ
            from the kernel's.
        TypeError: complex input with a real kernel.

    Source: Dumoulin and Visin 2016, https://arxiv.org/abs/1603.07285, chapter 4.

    >>> conv_transpose(jnp.ones((3, 1)), jnp.ones((3, 1, 1)), strides=2)[:, 0]
    Array([1., 1., 2., 1., 2., 1., 1.], dtype=float32)
    """


@of_rank(transpose, 1)
def conv1d_transpose() -> None:
    """Transpose a convolution of a sequence: :func:`conv_transpose` in one dimension.

    ``x`` is (\\*batch, time, channels), ``kernel`` (kernel_size, filters / groups, channels).

    >>> conv1d_transpose(jnp.ones((2, 5, 3)), jnp.ones((4, 6, 3)), strides=2, padding="same").shape
    (2, 10, 6)
    """


@of_rank(transpose, 2)
def conv2d_transpose() -> None:
    """Transpose a convolution of an image: :func:`conv_transpose` in two dimensions.

    ``x`` is (\\*batch, rows, columns, channels), ``kernel`` (rows, columns, filters / groups, channels).

    >>> conv2d_transpose(jnp.ones((2, 5, 4, 3)), jnp.ones((2, 2, 6, 3)), strides=2).shape
    (2, 10, 8, 6)
    """


@of_rank(transpose, 3)
def conv3d_transpose() -> None:
    """Transpose a convolution of a volume: :func:`conv_transpose` in three dimensions.

    ``x`` is (\\*batch, depth, rows, columns, channels), ``kernel`` (\\*kernel_size, filters / groups, channels).

    >>> conv3d_transpose(jnp.ones((2, 2, 2, 2, 3)), jnp.ones((3, 3, 3, 1, 3))).shape
    (2, 4, 4, 4, 1)
    """
