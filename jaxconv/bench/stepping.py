"""The speed of networks that run step by step: a TCN in several libraries, and streams against windows in jaxconv."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.bench.agreement import disagreeing
from jaxconv.bench.timing import Program, medians, repeated
from jaxconv.contract import Layer, Params, layers
from jaxconv.models import Residual, Sequential
from jaxconv.streaming import stream

STEP, WINDOW = "step", "window"
MODES = (STEP,)
LIBRARIES = ("torch", "jaxconv", "sequence_layers")
TOLERANCE = 1e-4  # of the largest entry; each output sums 16 layers of 210 products
WAKE_WORD = "wakeword-b1"
ROWS = ("tcn-b1", "tcn-b64", WAKE_WORD)
FRAMES, BANDS = 30, 40  # of the wake-word network
RECORDING = 300


class Tcn(NamedTuple):
    """A TCN of causal convolutions: each level is ``relu(x + conv(conv(x)))``, each convolution with a ReLU.

    Bai et al. 2018, arXiv:1803.01271. weights: (kernel, bias) of each convolution, two for a level.
    """

    weights: list[tuple[np.ndarray, np.ndarray]]
    batch: int

    def dilation(self, number: int) -> int:
        """Return the dilation of a convolution."""
        return 1 << number // 2


def tcn(batch: int, kernel: int = 7, levels: int = 8, channels: int = 32) -> Tcn:
    """Return a TCN with random weights; with the default sizes an output reads 3,061 steps."""
    rng = np.random.default_rng(0)
    scale = (kernel * channels) ** -0.5
    shapes = [(kernel, channels, channels), (channels,)]
    weights = [tuple(scale * rng.standard_normal(s).astype("f4") for s in shapes) for _ in range(2 * levels)]
    return Tcn(weights, batch)


def tcn_layer(network: Tcn) -> tuple[Layer, Params]:
    """Return the TCN in jaxconv."""
    conv, relu = layers["Conv1D"], layers["ReLU"]
    parts: list[Any] = []
    for number, (kernel, _) in enumerate(network.weights[::2]):
        options = {"padding": "causal", "dilation_rate": 2**number, "activation": "relu"}
        parts += [Residual([conv(kernel.shape[2], len(kernel), **options) for _ in range(2)]), relu()]
    layer = Sequential(parts)
    params = layer.init(jax.random.key(0), (None, None, network.weights[0][0].shape[1]))[0]
    given = [leaf for kernel, bias in network.weights for leaf in (bias, kernel)]
    return layer, jax.tree.unflatten(jax.tree.structure(params), [jnp.asarray(leaf) for leaf in given])


class Stepper(NamedTuple):
    """A network in one library.

    start: returns a new state. step: maps (state, x of one step, channels last) to (output, state).
    """

    start: Callable[[], Any]
    step: Callable[[Any, np.ndarray], tuple[Any, Any]]

    def outputs(self, x: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for the steps of a sequence."""
        state, outputs = self.start(), []
        for at in range(x.shape[1]):
            y, state = self.step(state, x[:, at : at + 1])
            outputs.append(np.asarray(y))
        return [np.concatenate(outputs, 1)]

    def program(self, x: np.ndarray) -> Program:
        """Return the timed program: one step, and the wait for its output."""
        state = [self.start()]

        def run() -> None:
            y, state[0] = self.step(state[0], x)
            if isinstance(y, jax.Array):
                y.block_until_ready()

        return repeated(run)


def build_stepper(network: Tcn) -> Stepper:
    """Build the TCN as a stream."""
    layer, params = tcn_layer(network)
    running = stream(layer, (None, None, network.weights[0][0].shape[1]))
    step = jax.jit(lambda state, x: running.step(params, state, x), donate_argnums=0)

    def one(state: Any, x: Any) -> tuple[Any, Any]:
        y, _, state = step(state, x)
        return y, state

    return Stepper(lambda: running.init(network.batch), one)


def measure_step(name: str, libraries: Sequence[str], seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure a row: one step in each library; then, in jaxconv, a step against the computation of a window."""
    if name == WAKE_WORD:
        times = _wake_word(seconds, say) if "jaxconv" in libraries else {}
        return {"name": name, "milliseconds": {STEP: times}, "wrong": []}
    network = tcn(int(name.removeprefix("tcn-b")))
    channels = network.weights[0][0].shape[1]
    x = np.random.default_rng(1).standard_normal((network.batch, 64, channels)).astype("f4")
    built = {library: _builder(library)(network) for library in libraries}
    wrong = disagreeing({library: one.outputs(x) for library, one in built.items()}, TOLERANCE)
    times = {} if wrong else medians({library: one.program(x[:, :1]) for library, one in built.items()}, seconds)
    if "jaxconv" in times:
        layer, params = tcn_layer(network)
        field = stream(layer, (None, None, channels)).receptive_field
        window, last = jnp.zeros((network.batch, field, channels)), jax.jit(lambda x: layer.apply_fn(params, x)[:, -1])
        whole = medians({WINDOW: repeated(lambda: last(window).block_until_ready())}, seconds)[WINDOW]
        ratio = whole / times["jaxconv"]
        say(f"{name}: recomputing {field} steps takes {whole:.1f} ms, {ratio:.0f} times as long as a step")
    return {"name": name, "milliseconds": {STEP: times}, "wrong": wrong}


def _builder(library: str) -> Callable[[Tcn], Stepper]:
    if library == "jaxconv":
        return build_stepper
    return importlib.import_module(f"jaxconv.bench.peers.{library}_step").build_stepper


def wake_word() -> Layer:
    """Return the streaming wake-word network of MLPerf Tiny: separable convolutions over 30 frames of 40 bands."""
    parts: list[Any] = []
    for kernel, filters in ((3, 128), (5, 128), (10, 128), (15, 32)):
        parts += [layers["DepthwiseConv1D"](kernel, use_bias=False), layers["Conv1D"](filters, 1, use_bias=False)]
        parts += [layers["BatchNormalization"](), layers["ReLU"]()]
    return Sequential([*parts, layers["Flatten"](), layers["Dense"](3, "softmax")])


def _wake_word(seconds: float, say: Callable[[str], None]) -> dict[str, float]:
    """Measure a frame of the wake-word network, and print its ratio to a window, in single calls and in a program."""
    layer = wake_word()
    params, apply_fn = layer.init(jax.random.key(0), (None, FRAMES, BANDS))
    running = stream(layer, (None, FRAMES, BANDS))
    x = jax.random.normal(jax.random.key(1), (1, RECORDING, BANDS))
    step = jax.jit(lambda state, x: running.step(params, state, x), donate_argnums=0)
    whole = jax.jit(lambda x: apply_fn(params, x))
    frames, recording = jax.jit(lambda x: running.run(params, x, 1)), jax.jit(lambda x: running.run(params, x))
    windows = jax.jit(lambda x: jax.lax.map(lambda at: apply_fn(params, jax.lax.dynamic_slice_in_dim(x, at, FRAMES, 1)),
                                            jnp.arange(RECORDING)))  # fmt: skip
    state, frame, window = [running.init(1)], x[:, :1], x[:, :FRAMES]  # cut here: a slice takes longer than a step

    def one() -> None:
        y, _, state[0] = step(state[0], frame)
        y.block_until_ready()

    programs = {"jaxconv": repeated(one), "call": repeated(lambda: whole(window).block_until_ready())}
    programs |= {name: repeated(lambda f=f: f(x).block_until_ready()) for name, f in  # type: ignore[misc]
                 (("frames", frames), ("recording", recording), ("windows", windows))}  # fmt: skip
    times = medians(programs, seconds)
    each, best, other = (1e3 * times[name] / RECORDING for name in ("frames", "recording", "windows"))
    work = layer.multiply_adds((None, FRAMES, BANDS)) / (running.multiply_adds or 1)  # type: ignore[operator]
    say(
        f"{WAKE_WORD}: multiply-adds 1/{work:.1f} of a window's; in one program {each:.1f} microseconds a frame, "
        f"{best:.1f} if run chooses the chunks, {other:.1f} a window: 1/{other / each:.1f} and 1/{other / best:.1f}; "
        f"one call {1e3 * times['jaxconv']:.0f} and {1e3 * times['call']:.0f}: "
        f"1/{times['call'] / times['jaxconv']:.1f}"
    )
    return {"jaxconv": times["jaxconv"]}
