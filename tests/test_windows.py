"""The arithmetic of windows against brute force: the definition, counting, and real layers poisoned with NaN."""

import random
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.windows import MIXED, POINTWISE, Reach, StreamPlan, Window, output_lengths, whole
from tests.support.windows import reads

PADDINGS = ["valid", "same", "causal", (0, 0), (2, 1), (0, 3), (4, 0)]


def random_window(rng, transposed=None):
    """Draw a sliding or transposed window of zeros mode."""
    transposed = rng.random() < 0.4 if transposed is None else transposed
    size, stride, dilation = rng.randint(1, 5), rng.randint(1, 4), rng.randint(1, 3)
    if not transposed:
        return Window(size, stride, dilation, rng.choice(PADDINGS))
    extent = (size - 1) * dilation + 1
    cut = rng.choice(["valid", "same", (0, 0), (min(1, extent - 1), 0), (extent // 2, extent // 3)])
    more = rng.choice([None, *range(stride)])
    return Window(size, stride, dilation, cut, transposed=True, output_padding=more)


def layer_of(window):
    """Return the convolution layer that has this window."""
    options = {"kernel_size": window.size, "strides": window.stride, "dilation_rate": window.dilation}
    options |= {"padding": window.padding, "strides_with_dilation": True}
    if window.transposed:
        return jc.Conv1DTranspose(1, **options, output_padding=window.output_padding)
    return jc.Conv1D(1, **options)


@pytest.mark.few(3)
@pytest.mark.parametrize("seed", range(60))
def test_an_output_of_a_layer_reads_exactly_the_inputs_of_its_window(seed):
    rng = random.Random(seed)
    window, length = random_window(rng), rng.randint(1, 12)
    try:
        total = window.output_length(length)
    except ValueError:
        with pytest.raises(ValueError, match="the shortest valid input is"):
            layer_of(window).init(jax.random.key(0), (None, length, 1))
        return
    layer = layer_of(window)
    assert layer.output_shape((None, length, 1)) == (None, total, 1)
    params = {"kernel": jnp.ones((window.size, 1, 1)), "bias": jnp.zeros(1)}
    poisoned = jnp.where(jnp.eye(length, dtype=bool)[..., None], jnp.nan, jnp.ones((length, length, 1)))
    with jc.lowering("xla"):
        y = layer.apply_fn(params, poisoned)
    if not window.transposed:  # a transposed convolution of XLA's multiplies the zeros between the inputs, too
        assert (reads(window, length) == np.isnan(np.asarray(y[..., 0])).T).all()
    ones = layer.apply_fn(params, jnp.eye(length)[..., None])[..., 0]
    assert (reads(window, length) == (np.asarray(ones) > 0.5).T).all()


@pytest.mark.parametrize("seed", range(100))
def test_the_reach_bounds_what_is_read(seed):
    rng = random.Random(seed)
    window, length = random_window(rng), rng.randint(1, 14)
    try:
        matrix = reads(window, length)
    except ValueError:
        return
    reach = window.reach(length)
    for t, read in enumerate(map(np.flatnonzero, matrix)):
        if len(read) and not window.transposed:
            assert reach.low + t * reach.step <= read[0] and read[-1] <= reach.high + t * reach.step
    widest = max((read[-1] - read[0] + 1 for read in map(np.flatnonzero, matrix) if len(read)), default=0)
    assert widest <= reach.high - reach.low + 1


def stream(window, length, blocks, rng):
    """Run a sum over a window step by step as its plan says; return (outputs, plan)."""
    plan = window.stream()
    x = [rng.random() for _ in range(length)] + [0.0] * (plan.block * blocks)
    state, out = [0.0] * plan.keep, []
    for start in range(0, len(x) - plan.block + 1, plan.block):
        new = x[start : start + plan.block]
        if window.transposed:
            pending = state + [0.0] * (plan.keep + window.stride - len(state))
            pending += [0.0] * max(window.extent - len(pending), 0)
            for j in range(window.size):
                pending[j * window.dilation] += new[0]
            out += pending[: window.stride]
            state = pending[window.stride : window.stride + plan.keep]
        else:
            held = state + new
            out.append(sum(held[j * window.dilation] for j in range(window.size)))
            state = held[len(held) - plan.keep :] if plan.keep else []
    return np.array(x[:length]), np.array(out), plan


@pytest.mark.parametrize("seed", range(150))
def test_what_a_stream_keeps_and_its_delay_give_the_outputs_of_the_whole(seed):
    rng = random.Random(seed)
    window = random_window(rng)
    length = window.stride * rng.randint(4, 9) if not window.transposed else rng.randint(4, 9)
    try:
        total = window.output_length(length)
    except ValueError:
        return
    x, out, plan = stream(window, length, window.extent + 8, rng)
    assert plan.ratio == (Fraction(window.stride) if window.transposed else Fraction(1, window.stride))
    assert np.allclose(out[plan.delay : plan.delay + total], reads(window, length) @ x)


@pytest.mark.parametrize(
    ("window", "keep", "delay"),
    [
        (Window(3, padding="same"), 2, 1),
        (Window(5, dilation=2, padding="same"), 8, 4),
        (Window(3, 2, padding="same"), 1, 1),
        (Window(3, 2, padding="causal"), 2, 0),
        (Window(4, 4, padding="same"), 0, 0),
        (Window(7, padding="valid"), 6, 6),
        (Window(2, 2, padding="valid"), 0, 0),
        (Window(2, 2, padding="valid", transposed=True), 0, 0),
        (POINTWISE, 0, 0),
        (Window(padding=(-3, 0)), 0, 3),
    ],
)
def test_known_delays(window, keep, delay):
    plan = window.stream()
    assert plan.delay == delay and (plan.keep == keep or window.stride > 1)
    assert isinstance(plan, StreamPlan)


def test_a_residual_of_two_same_convolutions_is_three_steps_late():
    assert Window(3, padding="same").stream(Window(5, padding="same").stream().delay).delay == 3


@pytest.mark.parametrize("window", [whole(3), MIXED, Window(3, padding="same", mode="reflect")])
def test_what_cannot_run_step_by_step_is_refused(window):
    with pytest.raises(ValueError, match="step by step"):
        window.stream()


@pytest.mark.parametrize("padding", PADDINGS)
def test_same_and_causal_padding_are_where_keras_puts_them(padding):
    for size in range(1, 6):
        for stride in range(1, 4):
            window = Window(size, stride, 2, padding)
            for length in range(1, 15):
                before, after = window.pads(length)
                if padding == "same":
                    assert window.output_length(length) == -(-length // stride) and 0 <= after - before <= 1
                if padding == "causal":
                    assert (before, after) == (window.extent - 1, 0)


@pytest.mark.parametrize(
    ("window", "length", "facts"),
    [
        (Window(5, 1, 2, "valid"), 4, ["length 4", "effective window 9", "valid input is 9"]),
        (Window(5, padding=(1, 2)), 1, ["length 1", "valid input is 2"]),
        (Window(padding=(-2, -3)), 5, ["length 5", "(2, 3)", "valid input is 6"]),
        (Window(3, padding=(4, 0), mode="reflect"), 4, ["reflect", "by 4", "valid input is 5"]),
        (Window(2, padding=(4, 4), transposed=True), 3, ["length 3", "no output", "valid input is 8"]),
    ],
)
def test_an_input_that_is_too_short_is_refused_with_the_shortest_valid_one(window, length, facts):
    with pytest.raises(ValueError) as error:
        window.output_length(length, "Conv1D")
    assert all(fact in str(error.value) for fact in ["Conv1D", *facts])
    least = int(str(error.value).rsplit(" ", 1)[1])
    assert window.output_length(least) >= 1
    with pytest.raises(ValueError, match="valid"):
        window.output_length(least - 1)


@pytest.mark.few(2)
@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"])
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_an_upsampling_reads_what_its_window_says(method, factor):
    layer, length = jc.UpSampling1D(factor, interpolation=method), 14
    window = layer.windows((None, length, 1))[0]
    weights = np.asarray(layer.apply_fn({}, jnp.eye(length)[..., None])[..., 0])
    noticed = abs(weights) > 1e-6  # the outermost weights of lanczos are zero up to rounding
    assert window.output_length(length) == length * factor == noticed.shape[1]
    widest = max(np.flatnonzero(row)[-1] - np.flatnonzero(row)[0] + 1 for row in noticed.T)
    assert widest <= window.reach().high - window.reach().low + 1 <= widest + 1


def test_the_reach_of_a_transposed_window_has_the_size_of_the_widest_output():
    rng, length = random.Random(3), 40
    for _ in range(60):
        window = random_window(rng, transposed=True)
        read = [np.flatnonzero(row) for row in reads(window, length)]
        inner = [(t, row) for t, row in enumerate(read) if len(row) and row[0] > 8 and row[-1] < length - 8]
        reach = window.reach(length)
        assert max(row[-1] - row[0] for _, row in inner) == reach.high - reach.low, window
        for t, row in inner:
            assert abs(row[0] - (reach.low + t // window.stride)) <= window.dilation + 1, window
            assert abs(row[-1] - (reach.high + t // window.stride)) <= window.dilation + 1, window


def test_lengths_of_several_axes_name_the_axis_that_is_too_short():
    windows = (Window(3), Window(5), whole(8))
    assert output_lengths(windows, (4, None, 2), "Conv2D") == (2, None, 8)
    with pytest.raises(ValueError, match=r"Conv2D: axis 2: input of length 3 .* the shortest valid input is 5"):
        output_lengths(windows, (4, 3, 2), "Conv2D")
    assert output_lengths((Window(axis=1), MIXED), (4, 5), "Permute") == (5, 5)


def test_the_kinds_of_windows():
    assert POINTWISE.pointwise and POINTWISE.aligned and not MIXED.pointwise and MIXED.aligned
    assert not whole(3).aligned and not Window(padding=(1, 0)).pointwise and not Window(2).pointwise
    assert whole(3).reach() is None and Window(3).reach() == Reach(0, 2, Fraction(1))
    assert Window(1, 1, 1, "same").pointwise and Window(1, padding="valid", transposed=True).pointwise
