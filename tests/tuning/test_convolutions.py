"""Finding the convolutions in a function, and their keys."""

import dataclasses
import json

import jax
import jax.numpy as jnp

import jaxconv
from jaxconv.geometry import Geometry
from jaxconv.kernels import choice
from jaxconv.tuning.convolutions import convolutions
from tests.support.tuning import W, X, convolve, key, remember


def test_a_key_is_stable_text_and_differs_between_problems():
    assert json.loads(key()) == {
        "map": "convolve", "x": [12], "w": [3], "y": [12], "strides": [1], "dilation": [1], "pads": [[1, 1]],
        "groups": 1, "operands": [[2, 12, 3], [3, 3, 4]], "dtype": "float32",
    }  # fmt: skip
    half = [jax.ShapeDtypeStruct(v.shape, "bfloat16") for v in (X, W)]
    others = [key(*half), key(padding="VALID"), key(jax.ShapeDtypeStruct((3, 12, 3), "float32"))]
    assert len({key(), *others}) == 4


def test_both_data_formats_share_a_key():
    first = jax.ShapeDtypeStruct((2, 3, 12), "float32")

    def channels_first(x, w):
        return jaxconv.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=("NCW", "WIO", "NCW"))

    assert [one.key for one in convolutions(channels_first, first, W)] == [key()]


def test_a_single_lowering_or_a_symbolic_size_has_no_key(file):
    (n,) = jax.export.symbolic_shape("n")
    geometry = Geometry((12,), (3,), (1,), ((1, 1),), (1,), (1,), 1, (0, 2, 1), (2, 1, 0), (0, 2, 1))
    assert choice.key("convolve", geometry, X, W) == key()
    assert choice.key("convolve", geometry, jax.ShapeDtypeStruct((n, 12, 3), "float32"), W) is None
    both = dataclasses.replace(geometry, strides=(2,), lhs_dilation=(2,), padding=((1, 1),))
    assert choice.key("convolve", both, X, W) is None
    remember("fourier")
    exported = jax.export.export(jax.jit(convolve))(jax.ShapeDtypeStruct((n, 12, 3), "float32"), W)
    assert "fft" not in exported.mlir_module()


def test_convolutions_inside_loops_branches_and_functions_are_found_once():
    w = jnp.ones((3, 3, 3))

    def inside(x):
        x, _ = jax.lax.scan(lambda x, _: (convolve(x, w), None), x, length=2)
        x = jax.lax.cond(jnp.sum(x) > 0, lambda x: convolve(x, w[:2]), lambda x: x, x)
        x = jax.checkpoint(lambda x: convolve(x, w[:1]))(x)
        with jaxconv.lowering("matmul"):
            requested = convolve(x[:, :5], w)
        return jax.jit(convolve)(x, w), requested

    lengths = [one.geometry.w_lengths for one in convolutions(inside, X)]
    assert lengths == [(3,), (2,), (1,)]
