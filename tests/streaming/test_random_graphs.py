"""Law 7 over random graphs: values, gradients, edges, independent rows, NaN values, and correct errors."""

import contextlib
import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxconv as jc
from jaxconv.streaming import choice
from jaxconv.streaming.operation import Interpolate
from tests.support.catalogue import in_float64, randomised
from tests.support.stream_draws import CHANNELS, WHOLE, graphs

TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


@pytest.mark.parametrize("count", [pytest.param(3), pytest.param(120, marks=pytest.mark.slow)])
def test_streams_of_random_graphs(count):
    @settings(
        max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(graphs(), st.integers(0, 2**31), st.booleans(), st.sampled_from(["float64", "float64", "float32"]))
    def run(graph, seed, exact, dtype):
        rings = mock.patch.object(choice, "RING_FROM", 1 if seed % 2 else choice.RING_FROM)
        with jax.enable_x64(True), rings, jc.lowering("xla") if exact else contextlib.nullcontext():
            check(graph.layer, graph.inputs, graph.whole, np.random.default_rng(seed), exact, dtype)

    run()


def check(layer, inputs, whole, rng, exact, dtype):
    """Check that a graph streams, or that the reason for which it is refused is true."""
    layer = in_float64(layer) if dtype == "float64" else layer
    shape = (None, None, CHANNELS)
    try:
        running = jc.stream(layer, [shape] * inputs if inputs > 1 else shape)
    except ValueError as error:
        assert refusal_is_true(layer, inputs, whole, str(error)), error
        return
    assert whole is None
    lengths = valid_lengths(running, rng)
    if not lengths:
        return
    case = Case(running, inputs, lengths, dtype, rng)
    case.check_rows()
    if dtype == "float64":
        case.check_gradients(lengths[-1])
    if exact:
        case.check_poison(lengths[-1])


def sizes(layer, inputs, length):
    """Return the output lengths of a model, or None where it has no output."""
    shape = (None, length, CHANNELS)
    try:
        shapes = layer.output_shape([shape] * inputs if inputs > 1 else shape)
    except ValueError:
        return None
    return [one[1] for one in (shapes if isinstance(shapes, list) else [shapes])]


def refusal_is_true(layer, inputs, whole, message):
    """Return whether a message names the layer that cannot stream, or branches that no length, or hardly one, joins."""
    if whole is not None:
        kind, fact = type(WHOLE[whole][0]()).__name__, WHOLE[whole][1]
        if f"({kind})" in message and fact in message:
            return True
    found = [length for length in range(1, 130) if sizes(layer, inputs, length) is not None]
    return "merges" in message and len(found) <= 8


def valid_lengths(running, rng):
    """Return two lengths that the stream takes; check that it refuses others for a reason."""
    lengths = []
    inputs = running.plan.inputs
    for length in sorted(rng.integers(1, 3 * running.block + 20, 6).tolist()):
        try:
            running.plan.check_length(length)
        except ValueError as error:
            message = str(error)
            if "too few" in message:
                least = int(message.split()[-1])
                assert sizes(running.layer, inputs, length) is None and sizes(running.layer, inputs, least) is not None
                lengths.append(least)
            elif length % running.block == 0:
                assert sizes(running.layer, inputs, length) is None, error
            continue
        assert sizes(running.layer, inputs, length) is not None
        lengths.append(length)
    allowed = []
    for length in lengths:
        with contextlib.suppress(ValueError):
            running.plan.check_length(length)
            allowed.append(length)
    return allowed[:: max(len(allowed) - 1, 1)] if allowed else [running.block * 8]


class Case:
    """A stream with params, and sequences of two lengths with what the model makes of them."""

    def __init__(self, running, inputs, lengths, dtype, rng):
        self.running, self.inputs, self.rng, self.dtype = running, inputs, rng, dtype
        self.rows = int(rng.integers(1, 4))
        shape = (None, lengths[-1], CHANNELS)
        layer = running.layer
        self.params = randomised(layer.init(jax.random.key(0), [shape] * inputs if inputs > 1 else shape)[0])
        self.whole = jax.jit(layer.apply_fn)
        self.step = jax.jit(running.step)
        self.x = {length: self.draw(2, length) for length in lengths}

    def draw(self, batch, steps):
        arrays = [
            jnp.asarray(self.rng.standard_normal((batch, steps, CHANNELS)), self.dtype) for _ in range(self.inputs)
        ]
        return self.form(arrays)

    def form(self, arrays):
        return arrays if self.inputs > 1 else arrays[0]

    def outputs(self, y):
        return y if isinstance(y, list) else [y]

    def assert_equal(self, got, want):
        for a, b in zip(got, want, strict=True):
            b = np.asarray(b)
            assert a.shape == b.shape and a.dtype == b.dtype
            scale = max(np.abs(b).max(initial=0), 1.0)
            np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[self.dtype] * scale)

    def check_rows(self):
        """Check rows that start, wait and end each on their own, in random chunks; NaN is fed where nothing is read."""
        running, rng, rows = self.running, self.rng, self.rows
        want = {n: self.outputs(jax.tree.map(np.asarray, self.whole(self.params, x))) for n, x in self.x.items()}
        pieces = [(length, number) for length in self.x for number in range(2)]
        state = running.init(rows)
        form = jax.tree.map(lambda v: (v.shape, v.dtype), state)
        queue = [[pieces[i] for i in rng.permutation(len(pieces))[:2]] for _ in range(rows)]
        leave = [int(rng.integers(1, 3 * running.block)) if rng.integers(2) else None for _ in range(rows)]
        now, at, got = [None] * rows, [0] * rows, [[] for _ in range(rows)]
        checked = 0
        while any(queue) or any(one is not None for one in now):
            size = running.block * int(rng.integers(1, 3))
            x = [np.full((rows, size, CHANNELS), np.nan, self.dtype) for _ in range(self.inputs)]
            mask, reset, active = np.ones((rows, size), bool), np.zeros(rows, bool), rng.integers(0, 5, rows) > 0
            for row in np.flatnonzero(active):
                if leave[row] is not None and at[row] >= leave[row]:
                    now[row], leave[row] = None, None  # in the middle of a sequence
                    queue[row].append(pieces[0])
                if now[row] is None:
                    if not queue[row]:
                        active[row] = False
                        continue
                    now[row], at[row], got[row], reset[row] = queue[row].pop(), 0, [], True
                length, number = now[row]
                part = slice(at[row], min(at[row] + size, length))
                for own, given_x in zip(x, self.outputs(self.x[length]), strict=True):
                    own[row, : max(part.stop - part.start, 0)] = given_x[number, part]
                mask[row] = np.arange(at[row], at[row] + size) < length
            y, real, state = self.step(
                self.params, state, self.form([jnp.asarray(v) for v in x]), *map(jnp.asarray, (mask, reset, active))
            )
            assert jax.tree.map(lambda v: (v.shape, v.dtype), state) == form
            y, real = ([np.asarray(v) for v in self.outputs(one)] for one in (y, real))
            for row in range(rows):
                assert active[row] or not any(one[row].any() for one in real)
                if not active[row]:
                    continue
                got[row].append([one[row][keep[row]] for one, keep in zip(y, real, strict=True)])
                at[row] += size
                length, number = now[row]
                if at[row] >= -(-length // running.block) * running.block + running.flush:
                    whole = [np.concatenate(parts) for parts in zip(*got[row], strict=True)]
                    self.assert_equal(whole, [one[number] for one in want[length]])
                    now[row], checked = None, checked + 1
        assert checked >= 2 * rows

    def check_gradients(self, length):
        """Check gradients through a scan of steps against those of the whole."""
        x = self.x[length]
        shapes = self.outputs(jax.eval_shape(self.whole, self.params, x))
        weights = [jnp.asarray(self.rng.standard_normal(one.shape)) for one in shapes]

        def loss(apply):
            def total(params, x):
                return sum(jnp.sum(w * y * y) for w, y in zip(weights, self.outputs(apply(params, x)), strict=True))

            return jax.jit(jax.grad(total, (0, 1), allow_int=True))(self.params, x)

        chunk = self.running.block * int(self.rng.integers(1, 4))
        got, want = loss(lambda params, x: self.running.run(params, x, chunk)), loss(self.whole)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * max(1, np.abs(b).max(initial=0)))

    def check_poison(self, length):
        """Check that a NaN reaches no output that comes before it, of the model or of a chunk."""
        running, block = self.running, self.running.block
        if any(isinstance(step.choice.operation, Interpolate) for step in running.plan.steps):
            return  # a product with a matrix of weights: zeros times NaN
        at = int(self.rng.integers(0, length))
        x = jax.tree.map(lambda v: v.at[:, at].set(jnp.nan), self.x[length])
        bad = [np.flatnonzero(np.isnan(y[0]).any(1)) for y in self.outputs(self.whole(self.params, x))]
        for signal, reached in zip(running.plan.results, bad, strict=True):
            # output t comes with the block of the input with which its step t + delay comes
            come = [math.ceil((int(t) + signal.delay + 1) / (signal.rate * block)) * block for t in reached]
            assert min(come, default=length) > at, (at, reached, signal.delay)
        x = self.draw(self.rows, 2 * block)
        mask, off = jnp.ones((self.rows, 2 * block), bool), jnp.zeros(self.rows, bool)
        state = running.init(self.rows)
        poisoned = jax.tree.map(lambda v: v.at[:, block:].set(jnp.nan), x)
        want, got = (self.step(self.params, state, one, mask, off, ~off) for one in (x, poisoned))
        for signal, a, b in zip(running.plan.results, self.outputs(got[0]), self.outputs(want[0]), strict=True):
            steps = int(block * signal.rate)
            assert a.shape[1] == 2 * steps
            np.testing.assert_allclose(a[:, :steps], b[:, :steps], rtol=0, atol=1e-6)
