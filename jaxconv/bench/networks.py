"""Six networks, each described once by layers of jaxconv, which every other library builds in its own way."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import jaxconv.layers  # noqa: F401  registers every layer
from jaxconv.contract import Layer, layers
from jaxconv.models import Parallel, Residual, Sequential
from jaxconv.models.container import walk


class Network(NamedTuple):
    """A network and the shape of its batch.

    shape: of the input, batch first, channels last. target: shape of the class labels if ``classes`` is positive,
    otherwise of the output. classes: number of classes of the softmax cross-entropy; 0 means the mean squared error.
    """

    name: str
    model: Layer
    shape: tuple[int, ...]
    target: tuple[int, ...]
    classes: int = 0


def kind(layer: Layer) -> str:
    """Return the name of a layer's class without its rank: "Conv" for a ``Conv2D``."""
    return re.sub("[123]D", "", type(layer).__name__)


def propagate(model: Layer, x: Any, apply: Callable[[Any, Any], Any]) -> Any:
    """Pass ``x`` through a model: ``apply(layer, x)`` for each layer inside; ``x`` is a list if branches merge.

    >>> model = Sequential([layers["Dense"](8), Residual([layers["Dense"](8)])])
    >>> propagate(model, (2, 3), lambda layer, shape: layer.output_shape(shape))
    (2, 8)
    """
    (y,) = walk(model, [x], lambda _, layer, xs, structure: [apply(layer, structure.unflatten(xs))])
    return y


def batch(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Return an input and a target with channels last; they are the same in every call."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(network.shape).astype("f4")
    if network.classes:
        return x, rng.integers(0, network.classes, network.target).astype("i4")
    return x, np.tanh(rng.standard_normal(network.target)).astype("f4")


# -- the networks


def _conv(rank: int, filters: int, kernel: int, strides: int = 1, **options: Any) -> Layer:
    return layers[f"Conv{rank}D"](filters, kernel, strides, **{"padding": "same", "use_bias": False} | options)


def _norm() -> list[Layer]:
    return [layers["BatchNormalization"](), layers["ReLU"]()]


def _mean(rank: int, classes: int) -> list[Layer]:
    return [layers[f"GlobalAveragePooling{rank}D"](), layers["Dense"](classes)]


def _fcn() -> Network:
    """Wang, Yan and Oates 2017, arXiv:1611.06455."""
    body = [part for sizes in ((128, 8), (256, 5), (128, 3)) for part in (_conv(1, *sizes), *_norm())]
    return Network("fcn", Sequential([*body, *_mean(1, 5)]), (16, 512, 1), (16,), 5)


def _resnet() -> Network:
    """ResNet-18 for 32x32 images: He et al. 2015, arXiv:1512.03385, section 4.2 with the widths of ResNet-18."""

    def block(filters: int, strides: int) -> list[Layer]:
        body = [_conv(2, filters, 3, strides), *_norm(), _conv(2, filters, 3), layers["BatchNormalization"]()]
        shortcut = Sequential([_conv(2, filters, 1, strides), layers["BatchNormalization"]()])
        return [Residual(body, shortcut if strides > 1 else None), layers["ReLU"]()]

    widths = [(filters, s) for filters in (64, 128, 256, 512) for s in ((1 if filters == 64 else 2), 1)]
    body = [_conv(2, 64, 3), *_norm(), *(part for width in widths for part in block(*width)), *_mean(2, 10)]
    return Network("resnet18", Sequential(body), (16, 32, 32, 3), (16,), 10)


def _mobilenet() -> Network:
    """MobileNet with width multiplier 0.5 on 64x64 images: Howard et al. 2017, arXiv:1704.04861."""

    def block(filters: int, strides: int) -> list[Layer]:
        depthwise = layers["DepthwiseConv2D"](3, strides, padding="same", use_bias=False)
        return [depthwise, *_norm(), _conv(2, filters, 1), *_norm()]

    widths = [(32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2), *[(256, 1)] * 5, (512, 2), (512, 1)]
    body = [_conv(2, 16, 3, 2), *_norm(), *(part for width in widths for part in block(*width)), *_mean(2, 100)]
    return Network("mobilenet", Sequential(body), (16, 64, 64, 3), (16,), 100)


def _tcn() -> Network:
    """The TCN of the adding problem: Bai et al. 2018, arXiv:1803.01271, no dropout, an output at each step."""

    def conv(level: int) -> list[Layer]:
        return [_conv(1, 30, 7, padding="causal", dilation_rate=2**level, use_bias=True), layers["ReLU"]()]

    def block(level: int) -> list[Layer]:
        shortcut = None if level else _conv(1, 30, 1, use_bias=True)
        return [Residual([*conv(level), *conv(level)], shortcut), layers["ReLU"]()]

    body = [*(part for level in range(7) for part in block(level)), _conv(1, 1, 1, use_bias=True)]
    return Network("tcn", Sequential(body), (32, 400, 2), (32, 400, 1))


def _unet() -> Network:
    """A small 3-D U-Net: Cicek et al. 2016, arXiv:1606.06650, two levels deep."""

    def twice(filters: int) -> list[Layer]:
        return [_conv(3, filters, 3), *_norm(), _conv(3, filters, 3), *_norm()]

    def level(inside: list[Layer], filters: int) -> Layer:
        up = layers["Conv3DTranspose"](filters, 2, 2, padding="same", use_bias=False)
        return Parallel([Sequential([]), [layers["MaxPooling3D"](2), *inside, up]], "concatenate")

    middle = [*twice(32), level(twice(64), 32), *twice(32)]
    body = [*twice(16), level(middle, 16), *twice(16), _conv(3, 3, 1, use_bias=True)]
    return Network("unet3d", Sequential(body), (1, 32, 32, 32, 1), (1, 32, 32, 32), 3)


def _dcgan() -> Network:
    """The DCGAN generator for 64x64 images with half the filters: Radford et al. 2015, arXiv:1511.06434."""

    def up(filters: int) -> Layer:
        return layers["Conv2DTranspose"](filters, 4, 2, padding="same", use_bias=False)

    start = [layers["Dense"](4 * 4 * 512), layers["Reshape"]((4, 4, 512)), *_norm()]
    ups = [part for filters in (256, 128, 64) for part in (up(filters), *_norm())]
    return Network("dcgan", Sequential([*start, *ups, up(3), layers["Activation"]("tanh")]), (16, 100), (16, 64, 64, 3))


NETWORKS = {network.name: network for network in (_fcn(), _resnet(), _mobilenet(), _tcn(), _unet(), _dcgan())}
