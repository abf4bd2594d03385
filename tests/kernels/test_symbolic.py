"""Convolutions of arrays with symbolic sizes: export, forward and backward, and results of static sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxconv

# name: (function, sizes of x, of the kernel, options); a string is a symbolic size
CASES = {
    "1-D, causal": (jaxconv.conv, ("b", "n", 4), (3, 4, 5), {"padding": "causal", "dilation_rate": 2}),
    "2-D, same": (jaxconv.conv, ("b", "n", "m", 4), (3, 3, 4, 5), {"padding": "same"}),
    "2-D, same, strides": (jaxconv.conv, ("b", "n", "m", 4), (3, 3, 4, 5), {"padding": "same", "strides": 2}),
    "2-D, transposed, same": (
        jaxconv.conv_transpose, ("b", "n", "m", 4), (3, 3, 5, 4), {"padding": "same", "strides": 2},
    ),
}  # fmt: skip
MORE = {
    "1-D, same, strides": (jaxconv.conv, ("b", "n", 4), (3, 4, 5), {"padding": "same", "strides": 2}),
    "1-D, transposed": (jaxconv.conv_transpose, ("b", "n", 4), (3, 5, 4), {"strides": 2}),
    "2-D, valid": (jaxconv.conv, ("b", "n", "m", 4), (3, 3, 4, 5), {}),
    "2-D, valid, strides": (jaxconv.conv, ("b", "n", "m", 4), (3, 3, 4, 5), {"strides": (2, 3)}),
    "2-D, dilation": (jaxconv.conv, ("b", "n", "m", 4), (3, 3, 4, 5), {"dilation_rate": 2}),
    "2-D, pairs": (jaxconv.conv, ("b", "n", "m", 4), (3, 3, 4, 5), {"padding": ((1, 2), (0, 1)), "strides": (2, 1)}),
    "2-D, rows": (jaxconv.conv, ("b", "n", 8, 4), (3, 3, 4, 5), {"padding": "same", "strides": 2}),
    "2-D, columns": (jaxconv.conv, ("b", 8, "m", 4), (3, 3, 4, 5), {"padding": "same", "strides": 2}),
    "2-D, no batch": (jaxconv.conv, (2, "n", "m", 4), (3, 3, 4, 5), {"padding": "same"}),
    "2-D, batch": (jaxconv.conv, ("b", 8, 9, 4), (3, 3, 4, 5), {"padding": "same"}),
    "2-D, reflect": (jaxconv.conv, ("b", "n", "m", 4), (3, 3, 4, 5), {"padding": "same", "padding_mode": "reflect"}),
    "2-D, channels first": (
        jaxconv.conv, ("b", 4, "n", "m"), (3, 3, 4, 5), {"padding": "same", "data_format": "channels_first"},
    ),
    "2-D, groups": (jaxconv.conv, ("b", "n", "m", 4), (3, 3, 2, 6), {"padding": "same"}),
    "2-D, depthwise": (jaxconv.depthwise_conv, ("b", "n", "m", 4), (3, 3, 4, 2), {"padding": "same", "strides": 2}),
    "2-D, transposed": (jaxconv.conv_transpose, ("b", "n", "m", 4), (3, 3, 5, 4), {"strides": 3}),
    "2-D, transposed, stride 1": (jaxconv.conv_transpose, ("b", "n", "m", 4), (3, 3, 5, 4), {"padding": "same"}),
    "2-D, transposed, groups": (
        jaxconv.conv_transpose, ("b", "n", "m", 4), (3, 3, 3, 4), {"strides": 2, "groups": 2, "output_padding": 1},
    ),
    "3-D, same": (jaxconv.conv, ("b", "n", "m", "k", 4), (2, 2, 2, 4, 5), {"padding": "same", "strides": 2}),
    "3-D, transposed": (jaxconv.conv_transpose, ("b", "n", "m", "k", 4), (2, 2, 2, 5, 4), {"strides": 2}),
}  # fmt: skip
SIZES = {"b": 3, "n": 11, "m": 10, "k": 9}


@pytest.mark.parametrize("name", [*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_values_and_gradients_of_an_exported_convolution_are_those_of_static_sizes(name):
    function, x_sizes, kernel_shape, options = (CASES | MORE)[name]

    def run(x, kernel):
        y, vjp = jax.vjp(lambda x, kernel: function(x, kernel, **options), x, kernel)
        return y, *vjp(jnp.sin(y))

    letters = [size for size in x_sizes if isinstance(size, str)]
    symbols = export.symbolic_shape(",".join(map(str, x_sizes)), constraints=[f"{letter} >= 3" for letter in letters])
    shapes = (symbols, kernel_shape)
    exported = export.export(jax.jit(run))(*(jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes))
    rng = np.random.default_rng(0)
    static = tuple(SIZES.get(size, size) for size in x_sizes)
    x, kernel = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in (static, kernel_shape))
    for got, want in zip(exported.call(x, kernel), jax.jit(run)(x, kernel), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)  # sums in another order


def test_gradients_of_a_general_convolution_export_with_strides():
    n = export.symbolic_shape("n")[0]

    def loss(x, w):
        return jnp.sum(jaxconv.conv_general_dilated(x, w, (2,), "SAME", None, None, ("NWC", "WIO", "NWC")))

    args = jax.ShapeDtypeStruct((2, n, 3), np.float32), jax.ShapeDtypeStruct((3, 3, 4), np.float32)
    exported = export.export(jax.jit(jax.grad(loss)))(*args)
    x, w = jnp.ones((2, 9, 3)), jnp.ones((3, 3, 4))
    np.testing.assert_allclose(exported.call(x, w), jax.grad(loss)(x, w), rtol=1e-6)
