"""Time occlusion and mutations against one call of the model for each change: python -m tests.inspect.measure_reach.

Prints, for each network, medians of interleaved runs in milliseconds for one change, their ratio, and the largest
difference of the results. The naive loop, jitted, runs batches of 64 changed sequences, and only some of them. The
words "mutations" and "occlusion" choose one of the two.
"""

import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxconv as jc
from jaxconv.inspect import mutations, occlusion

SOME, BATCH, ROUNDS, WINDOW = 128, 64, 3, 10


def basset():
    """Return a network like Basset (Kelley et al. 2016, doi:10.1101/gr.200535.115) without its last activation."""
    parts = []
    for filters, size, pool in ((300, 19, 3), (200, 11, 4), (200, 7, 4)):
        parts += [jc.Conv1D(filters, size, padding="same"), jc.BatchNormalization(), jc.ReLU(), jc.MaxPooling1D(pool)]
    return jc.Sequential([*parts, jc.Flatten(), jc.Dense(1000, "relu"), jc.Dense(1000, "relu"), jc.Dense(164)])


def spliceai():
    """Return a dilated residual network like SpliceAI (Jaganathan et al. 2019, doi:10.1016/j.cell.2018.12.015)."""

    def conv(rate):
        return [jc.BatchNormalization(), jc.ReLU(), jc.Conv1D(32, 11, padding="same", dilation_rate=rate)]

    blocks = [jc.Residual([*conv(rate), *conv(rate)]) for rate in (1, 4, 10, 25)]
    return jc.Sequential([jc.Conv1D(32, 1), *blocks, jc.Conv1D(3, 1)])


def measure(name, model, length, target, kinds):
    """Print a line for each kind of change of one random sequence."""
    params = jax.jit(lambda key: model.init_params(key, (None, length, 4)))(jax.random.key(0))
    x = jax.nn.one_hot(jax.random.randint(jax.random.key(1), (1, length), 0, 4), 4)
    where = (slice(None), *(target if isinstance(target, tuple) else (target,)))
    score = jax.jit(lambda params, x: model.apply_fn(params, x)[where])
    first = max(0, length // 2 - SOME // 2)
    own, before = np.asarray(x[0]).argmax(-1), float(score(params, x)[0])
    letters = [(step, (own[step] + 1) % 4) for step in range(first, first + SOME)]
    mutated = np.repeat(np.asarray(x), SOME, 0)
    occluded = mutated.copy()
    for row, (step, letter) in enumerate(letters):
        mutated[row, step] = np.eye(4)[letter]
        occluded[row, step : step + WINDOW] = 0

    def naive(changed):
        batches = jnp.asarray(changed).reshape(-1, BATCH, length, 4)
        return np.concatenate([score(params, batch) for batch in batches]) - before

    ways = {
        "mutations": (lambda: mutations(model, params, x, target), mutated, 3 * length),
        "occlusion": (lambda: occlusion(model, params, x, target, WINDOW), occluded, length - WINDOW + 1),
    }
    for kind in kinds:
        ours, changed, count = ways[kind]
        found, wanted = np.asarray(ours())[0], naive(changed)
        if kind == "mutations":
            found = np.array([found[step, letter] for step, letter in letters])
        else:  # the mean over windows, undone: each mean minus that of the windows one step before
            sums = np.cumsum(wanted)
            wanted = -(sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
            found = found[first + WINDOW : first + SOME, 0]
        times = {"ours": [], "naive": []}
        for _ in range(ROUNDS):
            for who, run, number in (("ours", ours, count), ("naive", lambda c=changed: naive(c), SOME)):
                start = time.perf_counter()
                jax.block_until_ready(run())
                times[who].append(1e3 * (time.perf_counter() - start) / number)
        fast, slow = (statistics.median(times[who]) for who in ("ours", "naive"))
        error = np.abs(found - wanted).max()
        print(f"{name} {length} {kind}: {fast:.3f} ms a change, naive {slow:.3f}, ratio {slow / fast:.1f}, "
              f"difference {error:.1e} of {np.abs(wanted).max():.1e}", flush=True)  # fmt: skip


if __name__ == "__main__":
    kinds = [word for word in sys.argv[1:] if word in ("mutations", "occlusion")]
    chosen = [word for word in sys.argv[1:] if word not in kinds] or ["basset600", "basset1000", "spliceai"]
    for one in chosen:
        if one.startswith("basset"):
            choice = basset(), int(one.removeprefix("basset")), 3
        else:
            choice = spliceai(), 5000, (2500, 1)
        measure(one.rstrip("0123456789"), *choice, kinds or ["mutations", "occlusion"])
