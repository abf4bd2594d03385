"""Time a step of ``fit`` on a memory-mapped file beside reading alone and computing alone; not a test.

    python -m tests.training.measure_reading FILE [--gigabytes 3.2] [--filters 16] [--turns 2] [--warm]

Writes FILE if it does not exist. The system is asked to drop its copy of the file in memory before each pass; --warm
keeps it. Without filters reading takes longer than computing. Prints the medians of the turns, in milliseconds for each
batch of 32 MB.
"""

import argparse
import mmap
import os
import statistics
import time
from pathlib import Path

import jax
import numpy as np

import jaxconv as jc
from jaxconv.training import EpochEvent, fit
from jaxconv.training.data import Arrays, reading

BATCH, SHAPE, COMPUTED = 8, (65536, 16), 24  # samples, of 4 MB each; batches of computing alone


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--gigabytes", type=float, default=3.2)
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--warm", action="store_true")
    options = parser.parse_args()
    if not options.file.exists():
        samples = int(options.gigabytes * 1e9 / (4 * np.prod(SHAPE))) // BATCH * BATCH
        file = np.lib.format.open_memmap(options.file, "w+", np.float32, (samples, *SHAPE))
        file[:] = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
        file.flush()
    x = np.load(options.file, mmap_mode="r")
    y, steps = np.zeros((len(x), 1), np.float32), len(x) // BATCH
    conv = [jc.Conv1D(options.filters, 9, padding="same", activation="relu")] if options.filters else []
    params, apply_fn = jc.Sequential([*conv, jc.GlobalAveragePooling1D(), jc.Dense(1)]).init(jax.random.key(0), x)
    batch = np.array(x[:BATCH]), y[:BATCH]

    def drop() -> None:
        if not options.warm:
            x._mmap.madvise(mmap.MADV_DONTNEED)  # what is mapped is not dropped
            with open(options.file, "rb") as handle:
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def second_epoch(*arguments, **keywords) -> float:  # the first one compiles
        times = []

        def note(event) -> None:
            if isinstance(event, EpochEvent):
                drop()
                times.append(time.perf_counter())

        fit(apply_fn, params, *arguments, loss="mse", epochs=2, callbacks=[note], **keywords)
        return times[1] - times[0]

    def read() -> float:
        drop()
        start = time.perf_counter()
        place = lambda batch: batch._replace(x=np.asarray(batch.x))  # noqa: E731
        with reading(Arrays(x, y, batch_size=BATCH, order=lambda _: np.arange(len(x))), place=place) as stream:
            for _ in stream:
                pass
        return (time.perf_counter() - start) / steps

    def compute() -> float:
        return second_epoch([batch] * COMPUTED) / COMPUTED

    def both() -> float:
        return second_epoch(x, y, batch_size=BATCH) / steps

    found: dict[str, list[float]] = {}
    for task in (read, compute, both) * options.turns:
        found.setdefault(task.__name__, []).append(1e3 * task())
    medians = {name: statistics.median(values) for name, values in found.items()}
    for name, values in found.items():
        print(f"{name:8} {medians[name]:8.1f} ms   {', '.join(f'{value:.1f}' for value in values)}")
    print(f"both / the longer one: {medians['both'] / max(medians['read'], medians['compute']):.3f}")


if __name__ == "__main__":
    main()
