"""The choice of a lowering: the table, winners and other platforms."""

import jax
import jax.numpy as jnp
import pytest

import jaxconv
from jaxconv.geometry import Geometry
from jaxconv.kernels import choice, processor, tuning_cache


@pytest.fixture(autouse=True)
def no_matrix_units(monkeypatch):
    monkeypatch.setattr(processor, "may_have_matrix_units", lambda: False)


def chosen(x, w, strides=1, padding="SAME", dilation=1, groups=1, dtype="float32", stretch=1):
    """Return the names for C, T and K of a channels-last convolution."""
    rank = len(x) - 2
    axes = "DHW"[3 - rank :]
    how = jaxconv.explain_lowering(
        jax.ShapeDtypeStruct(x, dtype), jax.ShapeDtypeStruct(w, dtype), (strides,) * rank, padding, (stretch,) * rank,
        (dilation,) * rank, (f"N{axes}C", f"{axes}IO", f"N{axes}C"), groups, platform="cpu",
    )  # fmt: skip
    return [one.lowering for one in how]


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        (dict(x=(16, 512, 128), w=(5, 128, 256)), "winograd > matmul, winograd > matmul, xla_nhwc"),
        (dict(x=(8, 27, 27, 64), w=(5, 5, 64, 192)), "winograd > matmul, winograd > matmul, winograd > matmul"),
        (
            dict(x=(64, 7, 7, 128), w=(3, 3, 128, 256), padding="VALID"),
            "leading_axis > xla_nhwc, matmul, winograd > matmul",
        ),
        (
            dict(x=(2, 8, 28, 28, 144), w=(3, 1, 1, 144, 64)),
            "winograd > matmul, winograd > matmul, exchanged > winograd > matmul",
        ),
        (
            dict(x=(1, 56, 56, 64), w=(1, 3, 64, 512)),
            "winograd > matmul, winograd > matmul, leading_axis > winograd > matmul",
        ),
        (
            dict(x=(16, 64, 64, 24), w=(1, 3, 24, 64)),
            "leading_axis > xla_nhwc, polyphase > matmul, leading_axis > winograd > matmul",
        ),
        (
            dict(x=(16, 56, 56, 32), w=(3, 3, 32, 32)),
            "leading_axis > xla_nhwc, polyphase > leading_axis > xla_nhwc, winograd > matmul",
        ),
        (dict(x=(2, 80, 80, 48), w=(1, 3, 48, 48), dtype="bfloat16"), "matmul, matmul, leading_axis > xla_nhwc"),
        (dict(x=(8, 64, 64), w=(5, 64, 64)), "stacked_taps, matmul, xla_nhwc"),
        (dict(x=(16, 7, 7, 64), w=(3, 3, 64, 128)), "leading_axis > winograd > matmul, matmul, winograd > matmul"),
        (dict(x=(8, 56, 56, 64), w=(3, 3, 64, 64)), "winograd > matmul, winograd > matmul, winograd > matmul"),
        (dict(x=(8, 28, 28, 128), w=(3, 3, 128, 128)), "winograd > matmul, winograd > matmul, winograd > matmul"),
        (dict(x=(8, 7, 7, 512), w=(3, 3, 512, 512)), "winograd > matmul, winograd > matmul, winograd > matmul"),
        (dict(x=(8, 56, 56, 64), w=(1, 1, 64, 256)), "matmul, matmul, matmul"),
        (dict(x=(4, 2048, 768), w=(4, 1, 768), groups=768), "shift_add, shift_add, shift_add"),
        (dict(x=(8, 56, 56, 96), w=(7, 7, 1, 96), groups=96), "shift_add, polyphase > shift_add, shift_add"),
        (dict(x=(4, 2048, 64), w=(1024, 1, 64), groups=64), "shift_add, polyphase > shift_add, shift_add"),
        (dict(x=(1, 200, 200, 1), w=(50, 50, 1, 1)), "shift_add, polyphase > shift_add, shift_add"),
        (
            dict(x=(2, 24, 24, 24, 32), w=(3, 3, 3, 32, 64)),
            "winograd > matmul, polyphase > leading_axis > winograd > matmul, winograd > matmul",
        ),
        (dict(x=(1, 32, 32, 32, 64), w=(3, 3, 3, 64, 64)), "winograd > matmul, winograd > matmul, winograd > matmul"),
        (dict(x=(1, 128, 128, 8), w=(2, 2, 8, 320), strides=4), "im2col, matmul, leading_axis > matmul"),
        (
            dict(x=(2, 24, 24, 24, 12), w=(3, 3, 3, 12, 48)),
            "leading_axis > xla_extra_row, polyphase > leading_axis > xla_extra_row, leading_axis > winograd > matmul",
        ),
        (
            dict(x=(8, 128, 128, 3), w=(4, 4, 3, 96), strides=4),
            "polyphase > matmul, polyphase > matmul, polyphase > matmul",
        ),
        (
            dict(x=(16, 2000, 64), w=(4, 64, 48), strides=2),
            "xla_nhwc, polyphase > xla_nhwc, polyphase > xla_nhwc",
        ),
        (
            dict(x=(8, 1000, 96), w=(5, 96, 2), strides=2),
            "polyphase > matmul, polyphase > im2col, polyphase > exchanged > xla_nhwc",
        ),
        (dict(x=(8, 112, 112, 12), w=(1, 1, 12, 4)), "xla_nhwc, polyphase > xla_nhwc, exchanged > matmul"),
        (
            dict(x=(16, 8, 112, 8), w=(1, 3, 8, 256)),
            "leading_axis > im2col, matmul, leading_axis > xla_nhwc",
        ),
        (
            dict(x=(32, 150, 32), w=(3, 4, 32), groups=8),
            "groups_last, block_diagonal > polyphase > stacked_taps, groups_last",
        ),
        (
            dict(x=(2, 24, 24, 24, 24), w=(3, 3, 3, 24, 24)),
            "leading_axis > xla_extra_row, polyphase > leading_axis > xla_extra_row, winograd > matmul",
        ),
        (
            dict(x=(1, 10, 10, 10, 16), w=(3, 3, 3, 16, 16)),
            "leading_axis > xla_nhwc, polyphase > leading_axis > xla_nhwc, matmul",
        ),
        (
            dict(x=(32, 64, 64, 4), w=(3, 3, 4, 1)),
            "stacked_taps, polyphase > shift_add, exchanged > xla_extra_row",
        ),
        (
            dict(x=(8, 128, 128, 3), w=(3, 3, 3, 12)),
            "stacked_taps, matmul, xla_extra_row",
        ),
        (dict(x=(4, 56, 56, 3), w=(3, 3, 3, 64)), "leading_axis > im2col, matmul, xla_extra_row"),
        (
            dict(x=(4, 56, 56, 32), w=(3, 3, 32, 3)),
            "matmul, polyphase > leading_axis > im2col, exchanged > xla_extra_row",
        ),
        (
            dict(x=(4, 56, 56, 32), w=(3, 3, 32, 8)),
            "leading_axis > xla_nhwc, polyphase > leading_axis > xla_nhwc, exchanged > xla_extra_row",
        ),
        (
            dict(x=(64, 20, 20, 256), w=(7, 7, 256, 1), padding="VALID"),
            "leading_axis > matmul, polyphase > xla_nhwc, exchanged > xla_extra_row",
        ),
        (dict(x=(2, 32, 32, 32, 3), w=(1, 1, 1, 3, 3)), "xla_nhwc, polyphase > xla_nhwc, matmul"),
        (dict(x=(2, 4000, 1), w=(8, 1, 64)), "shift_add, matmul, row_correlation"),
        (dict(x=(1, 1024, 64), w=(9, 64, 64)), "xla_nhwc, polyphase > xla_nhwc, matmul"),
        (
            dict(x=(16, 512, 256), w=(3, 256, 128)),
            "winograd > matmul, winograd > matmul, exchanged > winograd > matmul",
        ),
        (dict(x=(16, 512, 192), w=(3, 192, 48)), "xla_nhwc, winograd > matmul, exchanged > winograd > matmul"),
        (dict(x=(16, 1024, 32), w=(3, 32, 32)), "xla_nhwc, polyphase > xla_nhwc, winograd > matmul"),
        (dict(x=(1, 56, 56, 64), w=(3, 3, 64, 64)), "xla_extra_row, polyphase > xla_extra_row, winograd > matmul"),
        (dict(x=(64, 4, 4, 512), w=(4, 4, 512, 1), padding="VALID"), "matmul, matmul, matmul"),
        (dict(x=(64, 4, 4, 64), w=(4, 4, 64, 16), padding="VALID"), "matmul, matmul, matmul"),
        (dict(x=(1, 7, 32), w=(7, 32, 32), padding="VALID"), "matmul, matmul, matmul"),
        (dict(x=(4, 2000, 16), w=(200, 16, 16)), "xla_nhwc, polyphase > xla_nhwc, xla_nhwc"),
        (
            dict(x=(1, 256, 256, 3), w=(9, 9, 3, 32)),
            "leading_axis > xla_nhwc, polyphase > leading_axis > xla_nhwc, xla_extra_row",
        ),
        (dict(x=(4, 1000, 128), w=(128, 128, 128)), "xla_nhwc, polyphase > xla_nhwc, xla_nhwc"),
        (
            dict(x=(16, 14, 14, 256), w=(4, 4, 256, 128), stretch=2, padding=[(2, 2)] * 2),
            "polyphase > winograd > matmul, leading_axis > xla_nhwc, matmul",
        ),
        (
            dict(x=(8, 28, 28, 128), w=(3, 3, 128, 128), dtype="bfloat16"),
            "winograd > matmul, winograd > matmul, matmul",
        ),
        (dict(x=(16, 3000, 24), w=(3, 24, 96), strides=3), ", ".join(["polyphase > matmul"] * 3)),
        (
            dict(x=(16, 384, 64), w=(3, 64, 128), strides=3, dtype="bfloat16"),
            "polyphase > matmul, polyphase > matmul, matmul",
        ),
        (
            dict(x=(4, 128, 128, 24), w=(7, 7, 24, 4), strides=2),
            "xla_nhwc, polyphase > leading_axis > xla_nhwc, polyphase > exchanged > xla_extra_row",
        ),
        (
            dict(x=(8, 48, 48, 64), w=(4, 4, 64, 64), strides=3),
            "leading_axis > im2col, polyphase > leading_axis > im2col, im2col",
        ),
        (dict(x=(32, 64, 64, 16), w=(3, 3, 16, 12), strides=4), "xla_nhwc, polyphase > matmul, matmul"),
        (dict(x=(4, 28, 28, 3), w=(3, 3, 3, 24)), "leading_axis > im2col, matmul, xla_extra_row"),
        (
            dict(x=(16, 10, 10, 10, 24), w=(2, 2, 2, 24, 24)),
            "leading_axis > leading_axis > xla_nhwc, "
            "polyphase > leading_axis > leading_axis > xla_nhwc, leading_axis > exchanged > xla_extra_row",
        ),
        (
            dict(x=(8, 56, 56, 32), w=(3, 3, 1, 64), strides=2, groups=32),
            "shift_add, polyphase > groups_last, shift_add",
        ),
        (dict(x=(8, 4096, 128), w=(3, 2, 128), groups=64), "groups_last, polyphase > groups_last, groups_last"),
        (
            dict(x=(8, 56, 56, 64), w=(3, 3, 64, 64), dtype="bfloat16"),
            "stacked_taps, polyphase > stacked_taps, winograd > matmul",
        ),
        (
            dict(x=(8, 28, 28, 128), w=(3, 3, 128, 32), dtype="float16"),
            "stacked_taps, polyphase > stacked_taps, exchanged > winograd > matmul",
        ),
        (
            dict(x=(2, 24, 24, 24, 32), w=(3, 3, 3, 32, 64), strides=2),
            "leading_axis > leading_axis > xla_nhwc, polyphase > leading_axis > leading_axis > im2col, im2col",
        ),
        (
            dict(x=(2, 20, 20, 20, 48), w=(3, 3, 3, 48, 32), strides=2, padding="VALID"),
            "im2col, polyphase > leading_axis > xla_nhwc, im2col",
        ),
        (
            dict(x=(8, 28, 28, 128), w=(3, 3, 4, 128), groups=32),
            "groups_last, polyphase > groups_last, block_diagonal > winograd > matmul",
        ),
        (
            dict(x=(4, 120, 120, 128), w=(3, 3, 128, 12), strides=3, padding="VALID"),
            "xla_nhwc, polyphase > matmul, matmul",
        ),
        (
            dict(x=(8, 128, 128), w=(31, 128, 1), strides=4),
            "polyphase > matmul, polyphase > shift_add, polyphase > exchanged > row_correlation",
        ),
        (dict(x=(8, 28, 28, 128), w=(3, 3, 128, 128), dtype="int32"), "xla, xla, xla"),
    ],
)
def test_the_table_chooses_on_cpu(facts, names):
    assert ", ".join(chosen(**facts)) == names


def test_half_types_are_not_transformed_in_float32_where_the_processor_may_have_matrix_units(monkeypatch):
    monkeypatch.setattr(processor, "may_have_matrix_units", lambda: True)
    names = chosen(x=(8, 28, 28, 128), w=(3, 3, 128, 128), dtype="bfloat16")
    assert names == ["stacked_taps", "polyphase > stacked_taps", "matmul"]


@pytest.mark.parametrize(
    ("precision", "is_direct"),
    [(None, False), ("default", False), ("bfloat16", False), (jax.lax.Precision.DEFAULT, False), ("high", True),
     ("highest", True), ("float32", True), (jax.lax.Precision.HIGHEST, True), (("default", "highest"), True)],
)  # fmt: skip
def test_a_precision_leaves_the_lowerings_that_sum_the_products_of_the_definition(precision, is_direct):
    x, w = jax.ShapeDtypeStruct((16, 28, 28, 128), "float32"), jax.ShapeDtypeStruct((3, 3, 128, 128), "float32")
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "platform": "cpu"}
    how = jaxconv.explain_lowering(x, w, (1, 1), "SAME", precision=precision, **options)
    assert ["winograd" in one.lowering for one in how] == [not is_direct] * 3
    assert ["winograd" in one.supported for one in how] == [not is_direct] * 3
    if isinstance(precision, str):
        with jax.default_matmul_precision(precision):
            how = jaxconv.explain_lowering(x, w, (1, 1), "SAME", **options)
        assert ["winograd" in one.lowering for one in how] == [not is_direct] * 3


@pytest.mark.parametrize(
    ("x", "w"),
    [
        ((32, 28, 28, 8), (3, 3, 8, 128)),  # few channels
        ((16, 28, 28, 128), (3, 3, 128, 12)),  # few filters
        ((1, 14, 14, 128), (3, 3, 128, 128)),  # small
        ((16, 28, 28, 128), (7, 7, 128, 128)),  # other taps
        ((1, 256, 256, 128), (3, 3, 128, 128)),  # one image does not fit the cache
        (jax.export.symbolic_shape("b, 28, 28, 128"), (3, 3, 128, 128)),  # a batch that cannot be computed in parts
    ],
)
def test_fewer_multiplications_are_left_out_where_they_do_not_pay(x, w):
    x, w = (jax.ShapeDtypeStruct(shape, "float32") for shape in (x, w))
    how = jaxconv.explain_lowering(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), platform="cpu")
    assert not any("winograd" in one.lowering for one in how)


def test_other_platforms_use_the_convolution_of_xla():
    x, w = jnp.ones((2, 8, 8, 16)), jnp.ones((3, 3, 1, 16))
    call = jax.jit(lambda x, w: jaxconv.depthwise_conv2d(x, jnp.swapaxes(w, 2, 3), padding="same"))
    exported = jax.export.export(call, platforms=["cpu", "cuda", "tpu"])(x, w).mlir_module()
    assert "stablehlo.convolution" in exported
    assert "stablehlo.convolution" not in jax.export.export(call, platforms=["cpu"])(x, w).mlir_module()
    how = jaxconv.explain_lowering(x, w, (1, 1), "SAME", None, None, ("NHWC", "HWIO", "NHWC"), 16, platform="tpu")
    assert {one.lowering for one in how} == {"xla"}


def test_the_choice_is_a_function_of_its_arguments_alone(monkeypatch):
    monkeypatch.setattr(tuning_cache, "winners", lambda platform: pytest.fail("the cache was read"))
    geometry = Geometry((12,), (3,), (1,), ((1, 1),), (1,), (1,), 1, (0, 2, 1), (2, 1, 0), (0, 2, 1))
    call = ("convolve", geometry, *(jax.ShapeDtypeStruct(shape, "float32") for shape in ((2, 12, 3), (3, 3, 4))))
    winners = {choice.key(*call): choice.Winner("fourier", 1.0, "xla_nhwc", 2.0)}
    assert choice.choose(*call, platform="cpu").lowering == "xla_nhwc"
    assert choice.choose(*call, platform="tpu").lowering == "xla"
    assert choice.choose(*call, platform="tpu", winners=winners).lowering == "fourier"
    assert choice.choose(*call, platform="cpu", winners=winners, override="matmul").lowering == "matmul"
    assert choice.choose(*call, platform="cpu", override="polyphase").lowering == "xla_nhwc"  # it computes no C
