"""Run a wake-word network frame by frame, with the same decisions as window by window and a fraction of the work.

Reads the file of MLPerf Tiny's streaming wake-word network if its path is given; otherwise trains a small network on
generated spectrograms. Prints the latency per frame and the ratio to recomputing windows.
Run: python examples/streaming_wakeword.py [MODEL.h5] [--frames N] [--epochs N]
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxconv as jc

FRAMES, BANDS, CLASSES = 30, 40, 3
REPEATS = 200  # calls that are timed


def generated(key, count):
    """Return spectrograms (count, frames, 1, bands) and labels: noise, a rising tone, a falling tone."""
    noise, labels = jax.random.split(key)
    label = jax.random.randint(labels, (count,), 0, CLASSES)
    slope = jnp.array([0.0, 1.0, -1.0])[label][:, None, None]
    time_step, band = jnp.arange(FRAMES)[None, :, None] - FRAMES / 2, jnp.arange(BANDS)[None, None]
    tone = jnp.exp(-((band - BANDS / 2 - slope * time_step) ** 2) / 8) * (label > 0)[:, None, None]
    return (tone + 0.3 * jax.random.normal(noise, tone.shape))[:, :, None], label


def train(epochs):
    """Return a network in the style of the wake-word network, trained on generated spectrograms."""
    layers = []
    for kernel, filters in ((3, 32), (5, 32), (10, 32)):
        depthwise = jc.DepthwiseConv2D((kernel, 1), use_bias=False)
        layers += [depthwise, jc.Conv2D(filters, 1), jc.BatchNormalization(), jc.ReLU()]
    layer = jc.Sequential([*layers, jc.Flatten(), jc.Dense(CLASSES, "softmax")])
    params, apply_fn = layer.init(jax.random.key(0), (None, FRAMES, 1, BANDS))
    optimizer = optax.adam(3e-3)
    trainable, fixed = apply_fn.split(params)
    opt_state = optimizer.init(trainable)

    @jax.jit
    def update(trainable, fixed, opt_state, key):
        x, label = generated(key, 64)

        def loss(trainable):
            y, effects = apply_fn.forward(jc.merge(trainable, fixed), x, train=True)
            return -jnp.mean(jnp.log(jnp.take_along_axis(y, label[:, None], 1) + 1e-7)), effects.fixed

        (_, fixed), grads = jax.value_and_grad(loss, has_aux=True)(trainable)
        updates, opt_state = optimizer.update(grads, opt_state, trainable)
        return optax.apply_updates(trainable, updates), fixed, opt_state

    for number in range(epochs):
        trainable, fixed, opt_state = update(trainable, fixed, opt_state, jax.random.key(number + 1))
    return layer, jc.merge(trainable, fixed)


def seconds_per_call(function, *arguments):
    """Return the median time of a call."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def cut(recording, at):
    """Return the window of a recording that begins at the frame ``at``."""
    return jax.lax.dynamic_slice_in_dim(recording, at, FRAMES, 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", help="a Keras file; without one, a network is trained")
    parser.add_argument("--frames", type=int, default=300, help="length of the recording")
    parser.add_argument("--epochs", type=int, default=200, help="training steps of 64 spectrograms")
    options = parser.parse_args()
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # compute in the calling thread: less latency
    layer, params = jc.load_layer(options.model) if options.model else train(options.epochs)
    apply_fn = jax.jit(lambda x: layer.apply_fn(params, x))  # weights are constants of the program

    stream = jc.stream(layer, (None, FRAMES, 1, BANDS))
    step, state = jax.jit(lambda state, x: stream.step(params, state, x)), stream.init(1)
    words = -(-options.frames // FRAMES)
    recording = generated(jax.random.key(9), words)[0].reshape(1, words * FRAMES, 1, BANDS)
    decisions = []
    for at in range(recording.shape[1]):
        y, mask, state = step(state, recording[:, at : at + 1])
        if mask.all():  # not before FRAMES frames have arrived
            decisions.append(np.asarray(y[0, 0]))
    windows = jnp.concatenate([recording[:, at : at + FRAMES] for at in range(len(decisions))])
    error = float(np.abs(np.stack(decisions) - np.asarray(apply_fn(windows))).max())
    print(f"{len(decisions)} decisions, one per frame; largest difference from windows {error:.1e}")
    assert error < 1e-4

    frame = seconds_per_call(step, state, recording[:, :1])
    window = seconds_per_call(apply_fn, windows[:1])
    work = layer.multiply_adds((None, FRAMES, 1, BANDS)) / stream.multiply_adds
    print(f"latency per frame {frame * 1e6:.0f} us; recomputing a window {window * 1e6:.0f} us")
    print(f"a frame makes 1/{work:.1f} of the multiply-adds of a window, in 1/{window / frame:.1f} of the time")

    # a recording in one program, without a call for each frame
    count = len(decisions)
    run = jax.jit(lambda x: stream.run(params, x))
    each = jax.jit(lambda x: jax.lax.map(lambda at: layer.apply_fn(params, cut(x, at)), jnp.arange(count)))
    frame, window = (seconds_per_call(program, recording) / count for program in (run, each))
    print(f"in one program: {frame * 1e6:.1f} us a frame, {window * 1e6:.1f} us a window: 1/{window / frame:.1f}")


main()
