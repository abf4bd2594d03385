"""Occlusion and mutations: the change of a score when a part of the input is replaced."""

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxconv.contract import LEAF, Params, as_layer, shape_of
from jaxconv.inspect.calls import LeafCall, leaf_calls
from jaxconv.inspect.patches import Spans, Value, compute
from jaxconv.inspect.reach import Span
from jaxconv.inspect.target import fix, select

CHUNK = 1 << 22  # the number of entries of the largest value, for all changes that are computed together
MAX_CHANGES = 64  # the largest number of changes that are computed together


class Changes(NamedTuple):
    """Changes of one input, each of a part of it.

    input: the number of the input. number: the number of changes. spans: the parts.
    patch: a function from (the input with a batch of one, indices of changes) to the new values of the parts.
    """

    input: int
    number: int
    spans: Spans
    patch: Callable[[Array, Array], Array]


def changed_scores(
    layer: Any, params: Any, inputs: list[Array], structure: Any, target: Any, changes: Changes
) -> tuple[Array, Array]:
    """Return the score of one example, a scalar, and its scores after each of the changes, (count,).

    The inputs have a batch of one; the model takes them in ``structure``. ``target`` is as for ``select``.
    """
    calls, outputs, bases = _unchanged(layer, params, inputs, structure)

    def run(index: Array, sizes: list[int]) -> Array:
        changed = [Value(x) for x in inputs]
        x = inputs[changes.input]
        changed[changes.input] = Value(x, changes.patch(x, index), changes.spans)
        values = list(changed)
        for call in calls:
            given = [values[number] for number in call.inputs]
            own = call.params(params)
            count = call.layer.output_structure.num_leaves
            values += compute(call, own, given, bases[len(values) : len(values) + count], index)
        sizes += [value.patch.size for value in values if value.patch is not None]
        result = [values[number].read({}, index) for number in outputs]
        return select(layer.output_structure.unflatten(result), goal)

    unchanged = layer.output_structure.unflatten([bases[number] for number in outputs])
    goal = fix(unchanged, target)
    sizes: list[int] = []
    jax.eval_shape(lambda index: run(index, sizes), jnp.zeros(1, jnp.int32))
    chunk = max(1, min(MAX_CHANGES, changes.number, CHUNK // max(sizes)))
    index = jnp.minimum(jnp.arange(-(-changes.number // chunk) * chunk, dtype=jnp.int32), changes.number - 1)
    scores = lax.map(lambda index: run(index, []), index.reshape(-1, chunk)).reshape(-1)[: changes.number]
    return select(unchanged, goal)[0], scores


def _unchanged(
    layer: Any, params: Any, inputs: list[Array], structure: Any
) -> tuple[list[LeafCall], list[int], list[Array]]:
    """Return the calls in a model, the numbers of its outputs, and all values for the unchanged inputs."""
    count = len(inputs)
    calls, outputs = leaf_calls(layer, count, structure)
    values = list(inputs)
    for call in calls:
        own, given = call.params(params), [values[number] for number in call.inputs]
        found, masks = call.infer(call.layer, own, given)
        if masks:  # later layers treat masked steps differently
            whole_model = LeafCall(layer, (), (), tuple(range(count)), structure, final=True)
            found, _ = whole_model.infer(layer, params, inputs)
            return [whole_model], list(range(count, count + len(found))), [*inputs, *found]
        values += found
    return calls, outputs, values


def mutations(layer: Any, params: Params, x: Any, target: Any = None) -> Array:
    """Compute the change of a score for each substitution of one letter in a one-hot sequence: in-silico mutagenesis.

    For each layer, only the values that depend on the substitution, according to its windows, are computed again, and
    for a convolution only the change. The result equals that of one call for each mutated sequence, up to rounding of
    the unchanged values.

    Args:
        layer: a layer with one input, or its ``apply_fn``.
        params: the params of the layer.
        x: (batch, length, alphabet), one-hot: a single 1 at each step.
        target: the score, as for ``attribute``, of the logits if the last layer ends in a softmax or sigmoid.

    Returns:
        (batch, length, alphabet): the score with this letter at this step, minus that of ``x``; 0 for the letter of
        ``x``.

    Raises:
        ValueError: an input that is not one-hot; a target out of range.

    Source: Zhou and Troyanskaya 2015, doi:10.1038/nmeth.3547; the idea of computing only what changes: Nair et al.
    2022, doi:10.1093/bioinformatics/btac135.

    >>> model = jaxconv.Sequential([jaxconv.Conv1D(8, 3, activation="relu"), jaxconv.Flatten(), jaxconv.Dense(2)])
    >>> params, apply_fn = model.init(jax.random.key(0), (None, 10, 4))
    >>> x = jax.nn.one_hot(jnp.arange(10) % 4, 4)[None]
    >>> effects = mutations(model, params, x, target=1)
    >>> effects.shape, float(effects[0, 1, 1])
    ((1, 10, 4), 0.0)
    """
    layer = as_layer(layer, "mutations(layer, params, x, target)", params)
    (x,), structure = _inputs(layer, params, x, "mutations")
    if x.ndim != 3:
        raise ValueError(f"mutations: x of shape {x.shape} is not (batch, length, alphabet); give a one-hot sequence")
    if not isinstance(x, jax.core.Tracer):
        _check_one_hot(np.asarray(x))
    fixed, how = _target(layer, [x], structure, target)
    return _mutations(layer, structure, how, params, x, fixed)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _mutations(layer: Any, structure: Any, how: Any, params: Any, x: Array, fixed: Any) -> Array:
    _, length, letters = x.shape
    others = letters - 1
    spans = {1: Span(np.repeat(np.arange(length), others), 1)}

    def patch(x: Array, index: Array) -> Array:
        own = jnp.argmax(x[0, index // others], -1)
        return jax.nn.one_hot((own + 1 + index % others) % letters, letters, dtype=x.dtype)[:, None]

    def one(example: tuple[Array, Any]) -> Array:
        x, goal = example[0][None], how if example[1] is None else example[1][None]
        score, scores = changed_scores(layer, params, [x], structure, goal, Changes(0, length * others, spans, patch))
        own = jnp.argmax(x[0], -1)[:, None]
        letter = (own + 1 + jnp.arange(others)[None]) % letters
        changes = (scores - score).reshape(length, others)
        return jnp.zeros((length, letters), changes.dtype).at[jnp.arange(length)[:, None], letter].set(changes)

    return lax.map(one, (x, fixed))


def _check_one_hot(x: np.ndarray) -> None:
    wrong = np.argwhere(((x != 0) & (x != 1)).any(-1) | (x.sum(-1) != 1))
    if len(wrong):
        row, step = wrong[0]
        what = f"x is not one-hot: step {step} of example {row} is {x[row, step].tolist()}"
        raise ValueError(f"mutations: {what}; give a single 1 at each step, or use occlusion")


def occlusion(
    layer: Any, params: Params, x: Any, target: Any = None, window: Any = None, stride: Any = None, baseline: Any = 0
) -> Any:
    """Compute the decrease of a score when a window of the input is replaced by a baseline.

    The window slides over the input. Each entry of the result is the mean, over the windows that contain it, of the
    score of ``x`` minus that of ``x`` with the window replaced. If the windows do not fit, the last one is cut off at
    the end, as in Captum. For each layer, only the values that depend on the window are computed again, and for a
    convolution only the change. The result equals that of one call for each window, up to rounding of the unchanged
    values.

    Args:
        layer: a layer or its ``apply_fn``.
        params: the params of the layer.
        x: the input, batch first, or the list or dict of inputs that the model takes, of which one at a time is
            changed.
        target: the score, as for ``attribute``, of the logits if the last layer ends in a softmax or sigmoid.
        window: the size in steps: one number for all axes except the channels, or one for each of these axes, or one
            for each axis after the batch. Without a size for the channels, all channels are replaced together. For
            several inputs also a list or dict of sizes.
        stride: the distance of neighbouring windows, in the same forms; None means 1. At most ``window``, so that no
            entry is left out.
        baseline: the replacement: a number, or an array that broadcasts against ``x``; for several inputs also a list
            or dict of these.

    Returns:
        An array with the shape of ``x``, or a list or dict of them.

    Raises:
        ValueError: a window larger than the input; a stride larger than the window; a target out of range.

    Source: Zeiler and Fergus 2014, arXiv:1311.2901.

    >>> model = jaxconv.Sequential([jaxconv.Conv1D(4, 3, activation="relu"), jaxconv.GlobalMaxPooling1D()])
    >>> params, apply_fn = model.init(jax.random.key(0), (None, 12, 1))
    >>> occlusion(model, params, jnp.ones((2, 12, 1)), target=0, window=3).shape
    (2, 12, 1)
    """
    layer = as_layer(layer, "occlusion(layer, params, x, target, window)", params)
    inputs, structure = _inputs(layer, params, x, "occlusion")
    named = ("window", window), ("stride", stride), ("baseline", baseline)
    windows, strides, baselines = (_each(value, structure, name) for name, value in named)
    plans = []
    for number, one in enumerate(inputs):
        where = "occlusion" if len(inputs) == 1 else f"occlusion: input {number}"
        axes = spatial_axes(layer, one.ndim)
        sizes = _sizes(windows[number], one.shape, axes, "window", where)
        if isinstance(windows[number], Sequence) and len(windows[number]) == one.ndim - 1:
            axes = list(range(1, one.ndim))
        steps = _sizes(1 if strides[number] is None else strides[number], one.shape, axes, "stride", where)
        plans.append(_check_windows(one.shape, sizes, steps, where))
        baselines[number] = _as_baseline(baselines[number], one, where)
    fixed, how = _target(layer, inputs, structure, target)
    found = _occlusion(layer, structure, how, tuple(plans), params, inputs, baselines, fixed)
    return structure.unflatten(found)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _occlusion(
    layer: Any, structure: Any, how: Any, plans: tuple, params: Any, inputs: list, baselines: list, fixed: Any
) -> list[Array]:
    def one(example: tuple[list, list, Any]) -> list[Array]:
        xs, goal = [x[None] for x in example[0]], how if example[2] is None else example[2][None]
        found = []
        for number, (sizes, steps) in enumerate(plans):
            changes, starts = _windows(number, xs[number].shape, sizes, steps, example[1][number][None])
            score, scores = changed_scores(layer, params, xs, structure, goal, changes)
            found.append(_mean_over_windows(score - scores, xs[number].shape[1:], sizes, starts))
        return found

    return lax.map(one, (inputs, baselines, fixed))


def _windows(
    number: int, shape: tuple, sizes: tuple, steps: tuple, baseline: Array
) -> tuple[Changes, list[np.ndarray]]:
    """Return the changes by all windows, and the starts of the windows along each axis after the batch."""
    axes = zip(shape[1:], sizes, steps, strict=True)
    starts = [np.arange(-(-(n - size) // step) + 1) * step for n, size, step in axes]
    each = [grid.ravel() for grid in np.meshgrid(*starts, indexing="ij")]
    cut = [np.minimum(start, n - size) for start, n, size in zip(each, shape[1:], sizes, strict=True)]
    spans = {axis: Span(start, size) for axis, (start, size) in enumerate(zip(cut, sizes, strict=True), 1)}
    spans = {axis: span for axis, span in spans.items() if not span.covers(shape[axis])}

    def patch(x: Array, index: Array) -> Array:
        own, other = (Value(value).read(spans, index) for value in (x, baseline))
        own, other = (jnp.broadcast_to(value, (len(index), *sizes)) for value in (own, other))
        for axis, (start, first) in enumerate(zip(each, cut, strict=True), 1):
            if (start != first).any():  # the last window starts after its span, and is cut off at the end
                outside = jnp.asarray(start - first, jnp.int32)[index]
                step = lax.broadcasted_iota(jnp.int32, own.shape, axis)
                late = lax.broadcast_in_dim(outside, own.shape, (0,))
                other = jnp.where(step < late, own, other)
        return other

    return Changes(number, len(each[0]), spans, patch), starts


def _mean_over_windows(scores: Array, shape: tuple, sizes: tuple, starts: list[np.ndarray]) -> Array:
    """Return, for each entry of the input, the mean of the scores of the windows that contain it."""
    scores = scores.reshape([len(start) for start in starts])
    count = np.ones((), scores.dtype)
    for axis, (n, size, start) in enumerate(zip(shape, sizes, starts, strict=True)):
        step = np.arange(n)[:, None]
        inside = (step >= start) & (step < start + size)
        sums = jnp.tensordot(jnp.asarray(inside, scores.dtype), scores, ((1,), (axis,)), precision="highest")
        scores = jnp.moveaxis(sums, 0, axis)
        count = count[..., None] * inside.sum(1).astype(scores.dtype)
    return scores / jnp.asarray(count, scores.dtype)


# -- reading the arguments


def _inputs(layer: Any, params: Any, x: Any, where: str) -> tuple[list[Array], Any]:
    """Return the inputs as arrays, and the structure in which the model takes them."""
    x = jax.tree.map(jnp.asarray, x)
    layer.check_names(params)
    layer.output_shape(layer.read_shape(shape_of(x)))
    structure = jax.tree.structure(x)
    inputs = layer.flat_inputs(x) if layer.graph is not None else jax.tree.leaves(x)
    if any(not hasattr(one, "dtype") for one in inputs):
        raise TypeError(f"{where}: the first layer takes {len(x)} inputs; give a Model with an Input for each")
    sources = getattr(layer, "sources", ())
    if sources:
        structure = layer.structure
        inputs = [v if s.dtype is None else v.astype(s.dtype) for s, v in zip(sources, inputs, strict=True)]
    return inputs, structure


def _target(layer: Any, inputs: list[Array], structure: Any, target: Any) -> tuple[Any, Any]:
    """Return the target as (indices of the output for each example, static function of the output); either is None."""
    if target is None or callable(target):
        return None, target
    shape = layer.output_shape(layer.read_shape(structure.unflatten(x.shape for x in inputs)))
    leaves = layer.output_structure.flatten_up_to(shape)
    return fix([np.broadcast_to(np.float32(0), leaf) for leaf in leaves], target), None


def _each(value: Any, structure: Any, name: str) -> list:
    """Return one value for each input."""
    if structure == LEAF or not isinstance(value, list | dict):
        return [value] * structure.num_leaves
    try:
        return structure.flatten_up_to(value)
    except ValueError:
        raise ValueError(f"occlusion: {name}={value!r} does not have the structure of the inputs {structure}") from None


def spatial_axes(layer: Any, rank: int) -> list[int]:
    """Return the axes of an input except batch and channels, or the only axis after the batch."""
    found = next(formats(layer), "channels_last")
    axes = list(range(1, rank))
    return axes if rank == 2 else axes[:-1] if found == "channels_last" else axes[1:]


def formats(layer: Any) -> Iterator[str]:
    """Yield the data formats of the layers in a model, in order."""
    if getattr(layer, "data_format", None) is not None:
        yield layer.data_format
    for child in layer.children.values():
        yield from formats(child)


def _sizes(value: Any, shape: tuple, axes: Sequence[int], name: str, where: str) -> tuple[int, ...]:
    """Return a size for each axis after the batch."""
    several = isinstance(value, Sequence)
    given = list(value) if several else [value] * len(axes)
    try:
        given = [operator.index(n) for n in given]
    except TypeError:
        raise TypeError(f"{where}: {name}={value!r} is not an integer or a tuple of integers; give 3") from None
    if len(given) == len(shape) - 1:
        found = tuple(given)
    elif len(given) == len(axes):
        sizes = dict(zip(axes, given, strict=True))
        found = tuple(sizes.get(axis, shape[axis]) for axis in range(1, len(shape)))
    else:
        what = f"{name}={value!r} has {len(given)} sizes"
        raise ValueError(f"{where}: {what}; the input of shape {shape} needs 1, {len(axes)} or {len(shape) - 1}")
    if min(found) < 1:
        raise ValueError(f"{where}: {name}={value!r} is not valid; give at least 1")
    return found


def _as_baseline(value: Any, x: Array, where: str) -> Array:
    """Return the baseline of an input in its shape."""
    if jnp.issubdtype(x.dtype, jnp.integer) and not jnp.issubdtype(jnp.asarray(value).dtype, jnp.integer):
        what = f"baseline {value!r} is not an integer, and the input is of type {x.dtype}"
        raise TypeError(f"{where}: {what}; convert the input to float32, or give an integer")
    try:
        return jnp.broadcast_to(jnp.asarray(value, x.dtype), x.shape)
    except ValueError:
        what = f"baseline of shape {np.shape(value)} does not fit the input of shape {x.shape}"
        raise ValueError(f"{where}: {what}; give a number or an array that broadcasts against it") from None


def _check_windows(shape: tuple, sizes: tuple, steps: tuple, where: str) -> tuple[tuple, tuple]:
    for axis, (n, size, step) in enumerate(zip(shape[1:], sizes, steps, strict=True), 1):
        window = f"window of {size} steps along axis {axis}"
        if size > n:
            raise ValueError(f"{where}: {window} is larger than the input of shape {shape}; give at most {n}")
        if step > size:
            what = f"stride {step} is larger than the {window} and would leave entries out"
            raise ValueError(f"{where}: {what}; give at most {size}")
    return sizes, steps
