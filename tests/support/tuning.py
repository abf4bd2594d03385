"""One small convolution, and made-up winners for it."""

import jax

import jaxconv
from jaxconv.kernels import tuning_cache
from jaxconv.kernels.choice import Winner
from jaxconv.tuning.convolutions import convolutions

NUMBERS = ("NWC", "WIO", "NWC")
X, W = jax.ShapeDtypeStruct((2, 12, 3), "float32"), jax.ShapeDtypeStruct((3, 3, 4), "float32")
LAYER = jaxconv.Conv1D(4, 3, padding="same")
MILLISECONDS, OTHER_MILLISECONDS = {"xla_nhwc": 5.0, "im2col": 4.0, "fourier": 9.0}, 7.0


def convolve(x, w, padding="SAME"):
    return jaxconv.conv_general_dilated(x, w, (1,), padding, dimension_numbers=NUMBERS)


def explained(padding="SAME", platform="cpu"):
    return jaxconv.explain_lowering(X, W, (1,), padding, dimension_numbers=NUMBERS, platform=platform)


def key(x=X, w=W, padding="SAME"):
    [one] = convolutions(lambda x, w: convolve(x, w, padding), x, w)
    return one.key


def remember(lowering, ms=4.1, table="xla_nhwc", table_ms=5.0):
    tuning_cache.remember({key(): Winner(lowering, ms, table, table_ms)}, "cpu")
    tuning_cache.reload()


def scopes(function, *arguments):
    """Return the lowered text, which contains the name of each lowering."""
    return jax.jit(function).lower(*arguments).as_text(debug_info=True)
