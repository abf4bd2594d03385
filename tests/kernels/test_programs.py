"""The compiled programs of the default choice: sharding, symbolic batches, accuracy and memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxconv


@pytest.mark.parametrize("groups", [8, 32])
def test_a_grouped_convolution_sharded_by_batch_gathers_no_batch(groups):
    devices = jax.devices()
    assert len(devices) == 8
    mesh = Mesh(np.array(devices), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    by_batch, whole = (NamedSharding(mesh, PartitionSpec(*names)) for names in (("batch",), ()))
    x = jax.ShapeDtypeStruct((16, 20, 32), np.float32, sharding=by_batch)
    w = jax.ShapeDtypeStruct((3, 32 // groups, 32), np.float32, sharding=whole)

    def loss(x, w):
        return jnp.sum(jnp.sin(jaxconv.conv1d(x, w, padding="same")))

    text = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(x, w).compile().as_text()
    assert "all-gather" not in text
    assert "all-reduce" in text  # the kernel gradient sums over the batch


@pytest.mark.parametrize(
    ("x", "w", "groups"),
    [
        ((9, 9, 8), (3, 3, 4, 8), 2),
        ((9, 9, 20), (3, 3, 20, 20), 1),
        ((5, 6, 7, 4), (5, 3, 3, 4, 30), 1),
        ((80, 4), (70, 1, 4), 4),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                ((9, 9, 4), (3, 3, 1, 4), 4),
                ((9, 9, 3), (3, 3, 3, 20), 1),
                ((1, 9, 20), (1, 3, 20, 2), 1),
                ((5, 6, 7, 3), (3, 3, 3, 3, 8), 1),
                ((5, 6, 7, 8), (3, 3, 3, 8, 3), 1),
                ((5, 6, 7, 30), (3, 3, 3, 30, 30), 1),
            ]
        ),
    ],
)
def test_a_symbolic_batch_exports_with_every_default_choice(x, w, groups):
    (n,) = jax.export.symbolic_shape("n")

    def loss(x, w):
        axes = "DHW"[5 - x.ndim :]
        strides, dims = (2, 1, 1)[: len(axes)], (f"N{axes}C", f"{axes}IO", f"N{axes}C")
        return jnp.sum(jaxconv.conv_general_dilated(x, w, strides, "SAME", None, None, dims, groups) ** 2)

    gradient = jax.jit(jax.grad(loss, (0, 1)))
    exported = jax.export.export(gradient)(*(jax.ShapeDtypeStruct(shape, np.float32) for shape in ((n, *x), w)))
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.standard_normal(shape), np.float32) for shape in ((3, *x), w)]
    for got, want in zip(exported.call(*arrays), gradient(*arrays), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-3, rtol=1e-5)


CASES = [
    ((2, 64, 16), (5, 16, 16), 1, 1),
    ((2, 21, 21, 16), (3, 3, 16, 32), 2, 1),
    ((2, 16, 16, 32), (3, 3, 4, 32), 1, 8),
    ((1, 10, 10, 10, 16), (3, 3, 3, 16, 16), 1, 1),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in [
            ((2, 20, 20, 32), (3, 3, 32, 32), 1, 1),
            ((2, 24, 24, 16), (3, 3, 1, 16), 1, 16),
            ((2, 8, 20, 20, 3), (3, 3, 3, 3, 32), 1, 1),
            ((2, 12, 12, 12, 16), (3, 3, 3, 16, 32), 2, 1),
            ((2, 24, 24, 64), (3, 3, 64, 3), 1, 1),
            ((2, 1024, 8), (512, 1, 8), 1, 8),
        ]
    ),
]


def gradients(conv, strides, groups, rank):
    axes = "DHW"[3 - rank :]

    def run(x, w, dy):
        call = functools.partial(
            conv, window_strides=(strides,) * rank, padding="SAME", feature_group_count=groups,
            dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        )  # fmt: skip
        y, vjp = jax.vjp(call, x, w)
        return y, *vjp(dy)

    return run


@pytest.mark.few(2)
@pytest.mark.parametrize(("x", "w", "strides", "groups"), CASES)
def test_default_lowerings_are_as_accurate_as_lax(x, w, strides, groups, x64):
    rng, rank = np.random.default_rng(0), len(x) - 2
    x, w = rng.standard_normal(x), rng.standard_normal(w)
    ours, theirs = (
        gradients(conv, strides, groups, rank) for conv in (jaxconv.conv_general_dilated, lax.conv_general_dilated)
    )
    dy = rng.standard_normal((x.shape[0], *(-(-n // strides) for n in x.shape[1:-1]), w.shape[-1]))
    exact = jax.jit(theirs)(x, w, dy)
    single = [np.asarray(v, np.float32) for v in (x, w, dy)]
    for want, got, other in zip(exact, jax.jit(ours)(*single), jax.jit(theirs)(*single), strict=True):
        # root mean squares, which one unlucky sum does not decide
        error, allowed = (float(np.sqrt(np.mean((np.asarray(v, np.float64) - want) ** 2))) for v in (got, other))
        assert error <= 2 * allowed


@pytest.mark.parametrize(("x", "w", "strides", "groups"), CASES)
def test_a_compiled_gradient_needs_at_most_three_times_its_arguments_and_results(x, w, strides, groups):
    scale = 1 if len(x) > 3 else 4  # small arrays measure the program's constants
    x = (x[0] * scale, *x[1:])
    run = gradients(jaxconv.conv_general_dilated, strides, groups, len(x) - 2)
    y = (x[0], *(-(-n // strides) for n in x[1:-1]), w[-1])
    arrays = [jax.ShapeDtypeStruct(shape, np.float32) for shape in (x, w, y)]
    memory = jax.jit(run).lower(*arrays).compile().memory_analysis()
    assert memory.temp_size_in_bytes <= 3 * (memory.argument_size_in_bytes + memory.output_size_in_bytes)


def test_a_backward_pass_prepares_nothing_during_the_forward_pass():
    # what K needs besides its operands would be in memory once for each layer
    def temporary(layers):
        def loss(kernels, x):
            for w in kernels:
                x = jax.nn.relu(jaxconv.conv2d(x, w, padding="same"))
            return jnp.sum(x)

        shapes = [jax.ShapeDtypeStruct((3, 3, 256, 256), np.float32)] * layers
        x = jax.ShapeDtypeStruct((4, 14, 14, 256), np.float32)
        return jax.jit(jax.grad(loss)).lower(shapes, x).compile().memory_analysis().temp_size_in_bytes

    x = 4 * 4 * 14 * 14 * 256
    assert temporary(6) - temporary(3) <= 3 * 3 * x  # of each layer its input, and what is left of its output


@pytest.mark.exact
@pytest.mark.parametrize(
    ("x", "w", "padding"),
    [((2, 56, 56, 32), (3, 3, 32, 32), "SAME"), ((2, 30, 32, 32), (3, 3, 32, 64), "VALID")],
)
def test_xla_computes_the_kernel_gradient_of_images_on_all_cores(x, w, padding):
    numbers = ("NHWC", "HWIO", "NHWC")
    call = functools.partial(
        jaxconv.conv_general_dilated, window_strides=(1, 1), padding=padding, dimension_numbers=numbers
    )
    x, w = jnp.ones(x), jnp.ones(w)
    gradient = jax.jit(lambda x, w, dy: jax.vjp(lambda w: call(x, w), w)[1](dy)[0])
    with jaxconv.lowering("xla_extra_row"):
        text = gradient.lower(x, w, jax.eval_shape(call, x, w)).compile().as_text()
    (convolution,) = [line for line in text.splitlines() if " convolution(" in line]
    # XLA neither gives it to YNNPACK nor exchanges its operands, for which it has a slow loop only
    assert "rhs_reversal" not in convolution
    assert "__ynn_fusion" not in text


def test_a_kernel_gradient_of_one_tap_is_a_product_of_bfloat16():
    rng = np.random.default_rng(0)
    shapes = ((4, 14, 14, 64), (4, 14, 14, 128))
    x, dy = (jnp.asarray(rng.standard_normal(shape), "bfloat16") for shape in shapes)
    w = jnp.zeros((1, 1, 64, 128), "bfloat16")
    gradient = jax.jit(lambda x, dy: jax.vjp(lambda w: jaxconv.conv2d(x, w), w)[1](dy)[0])
    assert "bf16[64,784]" in gradient.lower(x, dy).compile().as_text()  # x, transposed in memory
    want = np.einsum("nhwc,nhwf->cf", x.astype(np.float32), dy.astype(np.float32))
    np.testing.assert_allclose(gradient(x, dy)[0, 0].astype(np.float32), want, rtol=2**-8, atol=1e-3)
    both = jax.vmap(gradient)(jnp.stack([x, 2 * x]), jnp.stack([dy, dy]))
    np.testing.assert_allclose(both[1].astype(np.float32), 2 * both[0].astype(np.float32), rtol=1e-6)
