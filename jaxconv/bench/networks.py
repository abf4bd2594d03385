"""Six networks, each defined once as a tree of operations that every library builds in its own way.

Independent of the libraries. :func:`propagate` works on arrays, on symbolic tensors and on channel counts; the latter
are for libraries whose modules need the number of input channels.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Conv(NamedTuple):
    """A convolution with "same" or causal padding; ``filters`` is ignored if it is depthwise."""

    filters: int
    kernel: int
    strides: int = 1
    dilation: int = 1
    depthwise: bool = False
    causal: bool = False
    bias: bool = False


class ConvTranspose(NamedTuple):
    """A transposed convolution with "same" padding; the output is ``strides`` times as long as the input."""

    filters: int
    kernel: int
    strides: int


class Norm(NamedTuple):
    """Batch normalization with scale and offset."""


class Relu(NamedTuple):
    """max(x, 0)."""


class Tanh(NamedTuple):
    """tanh(x)."""


class Pool(NamedTuple):
    """Max pooling over windows of two, along every spatial axis."""


class Mean(NamedTuple):
    """Global average pooling."""


class Dense(NamedTuple):
    """A dense layer."""

    units: int


class Unflatten(NamedTuple):
    """Reshape a vector to (*lengths, channels)."""

    lengths: tuple[int, ...]
    channels: int


class Residual(NamedTuple):
    """The sum of the outputs of the body and the shortcut; an empty shortcut is the identity."""

    body: tuple
    shortcut: tuple = ()


class Concatenated(NamedTuple):
    """The input and the output of the body, concatenated along the channels."""

    body: tuple


class Network(NamedTuple):
    """A network and the shape of its batch.

    Args:
        name: name of the row.
        body: the operations.
        shape: shape of the input, batch first, channels last.
        rank: number of spatial axes of the convolutions.
        target: shape of the target: class labels if ``classes`` is positive, otherwise the shape of the output.
        classes: number of classes of the softmax cross-entropy; 0 means the mean squared error.
    """

    name: str
    body: tuple
    shape: tuple[int, ...]
    rank: int
    target: tuple[int, ...]
    classes: int = 0


def propagate(body: Sequence[Any], x: Any, layer: Callable, add: Callable, concatenate: Callable) -> Any:
    """Apply a body to ``x``: ``layer(operation, x)``, and ``add(a, b)`` and ``concatenate(a, b)`` where branches merge.

    >>> propagate([Conv(8, 3), Concatenated((Conv(4, 3),))], 2, channels_after, lambda a, b: a, lambda a, b: a + b)
    12
    """
    for operation in body:
        if isinstance(operation, Residual):
            body, shortcut = (propagate(branch, x, layer, add, concatenate) for branch in operation)
            x = add(body, shortcut)
        elif isinstance(operation, Concatenated):
            x = concatenate(x, propagate(operation.body, x, layer, add, concatenate))
        else:
            x = layer(operation, x)
    return x


def channels_after(operation: Any, channels: int) -> int:
    """Return the number of output channels of an operation."""
    match operation:
        case Conv() if operation.depthwise:
            return channels
        case Conv() | ConvTranspose():
            return operation.filters
        case Dense():
            return operation.units
        case Unflatten():
            return operation.channels
    return channels


def build_in_order(network: Network, module: Callable[[Any, int], Any]) -> list[Any]:
    """Return ``module(operation, input channels)`` for each operation, in the order of :func:`propagate`."""
    modules: list[Any] = []

    def layer(operation: Any, channels: int) -> int:
        modules.append(module(operation, channels))
        return channels_after(operation, channels)

    propagate(network.body, network.shape[-1], layer, lambda a, b: a, lambda a, b: a + b)
    return modules


def keras_output(network: Network, x: Any, kinds: Callable[[str], Any]) -> Any:
    """Return the output of a network for a symbolic input, in a library with Keras's layers.

    Args:
        network: the network.
        x: the input.
        kinds: maps the name of a layer class to the class.
    """

    def layer(operation: Any, x: Any) -> Any:
        return _keras_layer(operation, network.rank, kinds)(x)

    return propagate(
        network.body, x, layer, lambda a, b: kinds("Add")()([a, b]), lambda a, b: kinds("Concatenate")()([a, b])
    )


def _keras_layer(operation: Any, rank: int, kinds: Callable[[str], Any]) -> Any:
    match operation:
        case Conv(filters, kernel, strides, dilation, depthwise, causal, bias):
            padding = "causal" if causal else "same"
            options = {"strides": strides, "padding": padding, "dilation_rate": dilation, "use_bias": bias}
            if depthwise:
                return kinds(f"DepthwiseConv{rank}D")(kernel, **options)
            return kinds(f"Conv{rank}D")(filters, kernel, **options)
        case ConvTranspose(filters, kernel, strides):
            return kinds(f"Conv{rank}DTranspose")(filters, kernel, strides, padding="same", use_bias=False)
        case Norm():
            return kinds("BatchNormalization")()
        case Relu():
            return kinds("ReLU")()
        case Tanh():
            return kinds("Activation")("tanh")
        case Pool():
            return kinds(f"MaxPooling{rank}D")(2)
        case Mean():
            return kinds(f"GlobalAveragePooling{rank}D")()
        case Dense(units):
            return kinds("Dense")(units)
        case Unflatten(lengths, channels):
            return kinds("Reshape")((*lengths, channels))
    raise TypeError(f"unknown operation {operation!r}")


def batch(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Return an input and a target with channels last; they are the same in every call."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(network.shape).astype("f4")
    if network.classes:
        return x, rng.integers(0, network.classes, network.target).astype("i4")
    return x, np.tanh(rng.standard_normal(network.target)).astype("f4")


# -- the networks


def _normed(filters: int, kernel: int, strides: int = 1) -> tuple:
    return (Conv(filters, kernel, strides), Norm(), Relu())


def _fcn() -> Network:
    """Wang, Yan and Oates 2017, arXiv:1611.06455."""
    body = (*_normed(128, 8), *_normed(256, 5), *_normed(128, 3), Mean(), Dense(5))
    return Network("fcn", body, (16, 512, 1), 1, (16,), 5)


def _resnet() -> Network:
    """ResNet-18 for 32x32 images: He et al. 2015, arXiv:1512.03385, section 4.2 with the widths of ResNet-18."""

    def block(filters: int, strides: int) -> tuple:
        body = (*_normed(filters, 3, strides), Conv(filters, 3), Norm())
        return (Residual(body, (Conv(filters, 1, strides), Norm()) if strides > 1 else ()), Relu())

    blocks = [block(filters, s) for filters in (64, 128, 256, 512) for s in ((1 if filters == 64 else 2), 1)]
    body = (*_normed(64, 3), *(part for one in blocks for part in one), Mean(), Dense(10))
    return Network("resnet18", body, (16, 32, 32, 3), 2, (16,), 10)


def _mobilenet() -> Network:
    """MobileNet with width multiplier 0.5 on 64x64 images: Howard et al. 2017, arXiv:1704.04861."""

    def block(filters: int, strides: int) -> tuple:
        return (Conv(0, 3, strides, depthwise=True), Norm(), Relu(), *_normed(filters, 1))

    widths = [(32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2), *[(256, 1)] * 5, (512, 2), (512, 1)]
    body = (*_normed(16, 3, 2), *(part for width in widths for part in block(*width)), Mean(), Dense(100))
    return Network("mobilenet", body, (16, 64, 64, 3), 2, (16,), 100)


def _tcn() -> Network:
    """The TCN of the adding problem: Bai et al. 2018, arXiv:1803.01271, no dropout, an output at each step."""

    def block(dilation: int, shortcut: tuple) -> tuple:
        conv = Conv(30, 7, dilation=dilation, causal=True, bias=True)
        return (Residual((conv, Relu(), conv, Relu()), shortcut), Relu())

    blocks = [block(2**level, () if level else (Conv(30, 1, bias=True),)) for level in range(7)]
    body = (*(part for one in blocks for part in one), Conv(1, 1, bias=True))
    return Network("tcn", body, (32, 400, 2), 1, (32, 400, 1))


def _unet() -> Network:
    """A small 3-D U-Net: Cicek et al. 2016, arXiv:1606.06650, two levels deep."""

    def twice(filters: int) -> tuple:
        return (*_normed(filters, 3), *_normed(filters, 3))

    bottom = (Pool(), *twice(64), ConvTranspose(32, 2, 2))
    middle = (Pool(), *twice(32), Concatenated(bottom), *twice(32), ConvTranspose(16, 2, 2))
    body = (*twice(16), Concatenated(middle), *twice(16), Conv(3, 1, bias=True))
    return Network("unet3d", body, (1, 32, 32, 32, 1), 3, (1, 32, 32, 32), 3)


def _dcgan() -> Network:
    """The DCGAN generator for 64x64 images with half the filters: Radford et al. 2015, arXiv:1511.06434."""
    ups = [part for filters in (256, 128, 64) for part in (ConvTranspose(filters, 4, 2), Norm(), Relu())]
    body = (Dense(4 * 4 * 512), Unflatten((4, 4), 512), Norm(), Relu(), *ups, ConvTranspose(3, 4, 2), Tanh())
    return Network("dcgan", body, (16, 100), 2, (16, 64, 64, 3))


NETWORKS = {network.name: network for network in (_fcn(), _resnet(), _mobilenet(), _tcn(), _unet(), _dcgan())}
