"""``tune``: measure the lowerings of a model's convolutions once on this machine, and store the winners."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxconv.contract import Apply, Layer, as_layer, merge, param_shapes
from jaxconv.kernels import tuning_cache
from jaxconv.kernels.choice import Winner
from jaxconv.progress import Display
from jaxconv.tuning.convolutions import Convolution, Run, convolutions
from jaxconv.tuning.race import race

NOISE = 1.05  # two runs of one program differ by less; a winner must be faster by more


class Measured(NamedTuple):
    """The result for one convolution.

    map: ``"convolve"``, ``"transpose"`` or ``"correlate"``. convolution: its sizes, as text. winner: the medians.
    remembered: whether an earlier run had measured it.
    """

    map: str
    convolution: str
    winner: Winner
    remembered: bool


class Report(tuple[Measured, ...]):
    """The results of ``tune``; its ``repr`` is a table with a line for each convolution.

    file: the file that stores the winners, or None if no convolution has a choice.
    """

    file: Path | None

    def __new__(cls, measured: Iterable[Measured], file: Path | None) -> "Report":
        report = super().__new__(cls, measured)
        report.file = file
        return report

    def __repr__(self) -> str:
        if not self:
            return "no convolution here has more than one lowering"
        rows = [["map", "convolution", "table", "ms", "fastest", "ms", "ratio"]]
        for name, convolution, winner, remembered in self:
            row = [name, convolution, winner.table, f"{winner.table_ms:.3g}", winner.lowering, f"{winner.ms:.3g}"]
            rows.append([*row, f"{winner.table_ms / max(winner.ms, 1e-9):.2f}{' (remembered)' if remembered else ''}"])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        table, best = sum(one.winner.table_ms for one in self), sum(one.winner.ms for one in self)
        total = f"{_count(len(self))}: {table:.3g} ms by the table, {best:.3g} ms as tuned; remembered in {self.file}"
        return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], "", total])


def tune(
    layer: Layer | Apply,
    input_shape: Any,
    *,
    train: bool = True,
    batch: int = 32,
    dtype: Any = "float32",
    seconds: float = 0.2,
    again: bool = False,
) -> Report:
    """Measure which lowering is the fastest for each convolution of a layer on this machine, and store the winners.

    From then on, every process computes these convolutions by the winners instead of the table's choices, for operands
    of the same shapes and dtype; ``explain_lowering`` shows the measurement. This process compiles its programs again.
    The winners are stored in a file in the user's cache folder, one for each device and version of JAX and jaxconv. The
    environment variable JAXCONV_TUNED names another file; an empty value turns the cache off. A winner is the table's
    choice, or more than 5 percent faster than it. Each is written as soon as it is measured: after Ctrl-C, the next
    call continues.

    Args:
        layer: a layer or a model, or its ``apply_fn``.
        input_shape: as for ``init``, batch first. The winners apply to this batch size.
        train: whether to measure the gradients of the parameters as well.
        batch: the batch size if the shape has None.
        dtype: the dtype of the input, an integer type for an ``Embedding``. The convolutions have the dtype of their
            layers.
        seconds: the time to measure each lowering.
        again: whether to measure convolutions that already have a winner too.

    Returns:
        A tuple of :class:`Measured`, which prints as a table.

    Raises:
        ValueError: if a size other than the batch is unknown, or if there is no file for the winners.
        OSError: if the file cannot be written.

    >>> jaxconv.tune(jaxconv.Dense(2), (None, 3))
    no convolution here has more than one lowering
    """
    if not seconds >= 0 or seconds == float("inf"):
        raise ValueError(f"tune: seconds={seconds} is not valid; expected a finite number of at least 0")
    found = convolutions(*_traced(layer, input_shape, train, batch, dtype))
    if not found:
        return Report((), None)
    platform = jax.default_backend()
    file, stored = tuning_cache.writable(platform)
    done: list[Measured] = []
    try:
        for one, winner, remembered in _measured(found, {} if again else stored, platform, seconds):
            if not remembered:
                tuning_cache.remember({one.key: winner}, platform)
            done.append(Measured(one.name, str(one), winner, remembered))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {len(done)} of {_count(len(found))} remembered in {file}") from None
    finally:
        if not all(one.remembered for one in done):
            tuning_cache.reload()
    return Report(done, file)


def _traced(layer: Any, input_shape: Any, train: bool, batch: int, dtype: Any) -> tuple[Callable[..., Any], Any, Any]:
    """Return a function of params and input whose convolutions are measured, and abstract arguments for it."""
    apply_fn = as_layer(layer, "tune(layer, input_shape)").apply_fn
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ValueError(f"tune: batch={batch!r} is not a batch size; expected a positive integer")
    try:
        kind = jax.dtypes.canonicalize_dtype(jnp.dtype(dtype))
    except TypeError:
        raise ValueError(f"tune: dtype={dtype!r} is not a dtype; expected one like 'float32' or 'int32'") from None

    def concrete(shape: tuple) -> jax.ShapeDtypeStruct:
        sizes = (batch if shape[0] is None else shape[0], *shape[1:]) if shape else ()
        if not all(isinstance(size, int) for size in sizes):
            raise ValueError(f"tune: input_shape {shape} has an unknown size; expected integers after the batch")
        return jax.ShapeDtypeStruct(sizes, kind)

    shapes = apply_fn.layer.read_shape(input_shape)
    x = jax.tree.map(concrete, shapes, is_leaf=lambda one: isinstance(one, tuple))
    params = param_shapes(apply_fn.layer, shapes)
    if not train:
        return apply_fn, params, x

    def gradients(params: Any, x: Any) -> Any:
        trainable, fixed = apply_fn.split(params)

        def loss(trainable: Any) -> Any:
            y, _ = apply_fn.forward(merge(trainable, fixed), x, train=True, key=jax.random.key(0))
            return sum((jnp.sum(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves(y)), jnp.zeros((), jnp.float32))

        return jax.value_and_grad(loss)(trainable)

    return gradients, params, x


def _measured(
    found: list[Convolution], stored: dict[str, Winner], platform: str, seconds: float
) -> Iterator[tuple[Convolution, Winner, bool]]:
    """Yield the winner of each convolution, and whether it was remembered; show the progress."""
    with Display(len(found), unit="convolution") as bar:
        for number, one in enumerate(found, 1):
            winner = stored.get(one.key)
            if winner is not None and winner.lowering in one.supported():
                yield one, winner, True
            else:
                yield one, fastest(one, platform, seconds), False
            bar.update(number)


def fastest(one: Convolution, platform: str, seconds: float) -> Winner:
    """Measure the lowerings of one convolution; the table's choice wins unless another is clearly faster."""
    table = one.default(platform)
    operands, programs = one.operands(), dict[str, Run]()
    for lowering in [table, *(name for name in one.supported() if name != table)]:
        try:
            program = one.program(lowering, platform, operands, memory_limit=lowering != table)
        except jax.errors.JaxRuntimeError:  # it needs more memory than the device has, or XLA cannot compile it
            if lowering == table:
                raise
            continue
        if program is not None:
            programs[lowering] = program
    times = race(programs, seconds)
    best = min(times, key=times.__getitem__)
    if best != table and _is_faster(times, best, table):  # the best of many may be so by chance: measure it again
        times = race({name: programs[name] for name in (table, best)}, seconds)
    best = best if _is_faster(times, best, table) else table
    return Winner(best, times[best], table, times[table])


def _is_faster(times: Mapping[str, float], one: str, other: str) -> bool:
    """Return whether one program is clearly faster than another; False if it dropped out."""
    return one in times and times[other] > NOISE * times[one]


def _count(number: int) -> str:
    return f"{number} convolution{'' if number == 1 else 's'}"
