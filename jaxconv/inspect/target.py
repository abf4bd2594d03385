"""The target of an attribution: one score of each example, by default a logit instead of a probability."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxconv.inspect.program import CALLS, CUSTOM, bind, called, flatten, producers, run, trace

Target = None | int | Sequence[Any] | Array | np.ndarray | Callable[[Any], Array]
ALLOWED = "give None, an integer, a tuple of integers, an array of integers, or a function of the output"
# steps that move or cast values
MOVES = """convert_element_type copy expand_dims name reduce_precision reshape sharding_constraint slice squeeze
    transpose""".split()  # noqa: SIM905
# steps between the logits and the maximum that a softmax subtracts from them
SHIFTS = [*MOVES, "broadcast_in_dim", "reduce_max", "stop_gradient", "max"]


def select(y: Any, target: Target = None) -> Array:
    """Return one score of each example, (batch,).

    Args:
        y: the output of a model, batch first.
        target: an int, the class of an output (batch, classes); a tuple, the index into the output of each example,
            such as (step, class); an array or list of integers, (batch,), the class of each example, or (batch, axes)
            with such an index for each; a function of ``y`` that returns (batch,). None: the highest score of each
            example, or the only one.

    Raises:
        ValueError: a target out of range, or of a shape that does not fit the output.
        TypeError: a target of another type; several outputs without a function that selects a score.

    >>> y = jnp.array([[1.0, 5.0, 2.0], [4.0, 0.0, 3.0]])
    >>> [select(y, target).tolist() for target in (None, 2, jnp.array([1, 0]), lambda y: y[:, 0] - y[:, 1])]
    [[5.0, 4.0], [2.0, 3.0], [5.0, 4.0], [-4.0, 4.0]]
    """
    if callable(target):
        return _checked_scores(target(y), y)
    y = _checked_output(y)
    index = fix(y, target)
    return y.reshape(len(y)) if index is None else y[(jnp.arange(len(y)), *jnp.moveaxis(index, -1, 0))]


def fix(y: Any, target: Target) -> Any:
    """Return the target as indices of the output, (batch, axes), so that it is the same for other inputs.

    Returns None for an output with one value for each example; a function is returned unchanged.
    """
    if callable(target):
        return target
    y = _checked_output(y)
    sizes = y.shape[1:]
    if target is None:
        if y[:1].size <= 1:
            return None
        return jnp.stack(jnp.unravel_index(jnp.argmax(y.reshape(len(y), -1), axis=1), sizes), -1)
    if not isinstance(target, int | np.integer | tuple | list | np.ndarray | Array) or isinstance(target, bool):
        raise TypeError(f"target is of type {type(target).__name__}; {ALLOWED}")
    index: Any = target if isinstance(target, Array) else np.asarray(target)
    if not jnp.issubdtype(index.dtype, jnp.integer):
        raise TypeError(f"target has type {index.dtype}; {ALLOWED}")
    if isinstance(target, tuple) or index.ndim == 0:
        index = index.reshape(1, -1)
    elif index.ndim == 1:
        index = index[:, None]
    return _checked_index(index, y)


def _checked_index(index: Any, y: Array) -> Array:
    """Check indices, with a row for each example or one row for all, and return a row for each example."""
    batch, sizes = len(y), y.shape[1:]
    if index.ndim != 2 or index.shape[1] != len(sizes):
        what = f"target of shape {index.shape[1:]} does not fit the output of shape {y.shape}"
        raise ValueError(f"{what}; give {len(sizes)} integers as a tuple, one for each axis after the batch")
    if index.shape[0] not in (1, batch):
        raise ValueError(f"target has {index.shape[0]} entries for a batch of {batch}; give one for each example")
    if not isinstance(index, jax.core.Tracer):
        for axis, (size, column) in enumerate(zip(sizes, np.asarray(index).T, strict=True)):
            for wrong in column[(column < -size) | (column >= size)]:
                what = f"{size} classes" if axis == len(sizes) - 1 else f"{size} entries along axis {axis + 1}"
                raise ValueError(f"target {wrong} is out of range: the output of shape {y.shape} has {what}")
    index = jnp.asarray(index)
    return jnp.broadcast_to(jnp.where(index < 0, index + jnp.asarray([sizes], index.dtype), index), (batch, len(sizes)))


def _checked_output(y: Any) -> Array:
    leaves = jax.tree.leaves(y)
    if len(leaves) != 1:
        raise TypeError(f"the model has {len(leaves)} outputs; give a function of them as target, lambda y: y[0][:, 3]")
    (y,) = leaves
    if jnp.ndim(y) == 0 or not jnp.issubdtype(jnp.result_type(y), jnp.floating):
        raise TypeError(f"the output has shape {jnp.shape(y)}, type {jnp.result_type(y)}; give a batch of real scores")
    return y


def _checked_scores(scores: Any, y: Any) -> Array:
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(scores)]
    batch = jax.tree.leaves(y)[0].shape[:1]
    if shapes != [batch]:
        what = f"the target function returns shape {str(shapes)[1:-1]}"
        raise ValueError(f"{what}; return one score for each example, of shape {batch}")
    if not jnp.issubdtype(jax.tree.leaves(scores)[0].dtype, jnp.floating):
        raise TypeError(f"the target function returns {jax.tree.leaves(scores)[0].dtype}; return real numbers")
    return jax.tree.leaves(scores)[0]


# -- logits


def logits(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``f`` without a softmax or sigmoid at the end of its outputs; outputs without one are unchanged.

    They are found in the traced program of ``f``, regardless of the library that wrote it, also before a change of
    dtype or shape. The gradient of a probability vanishes where the model is certain; that of its logit does not.
    ``log_softmax`` stays.

    >>> probabilities = lambda x: jax.nn.softmax(2 * x)
    >>> logits(probabilities)(jnp.array([[0.0, 3.0]])).tolist()
    [[0.0, 6.0]]
    """

    def without(*args: Any) -> Any:
        program = trace(f, *args)
        outputs = program.closed.jaxpr.outvars
        cuts = [_cut(program.closed, producers(program.closed.jaxpr), atom) for atom in outputs]
        if not any(cuts):
            return f(*args)
        ends = [cut or ([atom], lambda value: value) for cut, atom in zip(cuts, outputs, strict=True)]
        wanted = [atom for atoms, _ in ends for atom in atoms]
        values = iter(run(program.closed, wanted, jax.tree.leaves(args)))
        return jax.tree.unflatten(program.tree, [tail(*(next(values) for _ in atoms)) for atoms, tail in ends])

    return without


def _cut(closed: Any, made_by: dict, atom: Any) -> tuple[list, Callable] | None:
    """Return the variables to stop at, and a function from them to the output without its softmax or sigmoid."""
    eqn = _producer(made_by, atom)
    if eqn is None:
        return None
    if eqn.primitive.name in MOVES:
        inner = _cut(closed, made_by, eqn.invars[0])
        if inner is None:
            return None
        atoms, tail = inner
        return atoms, lambda *values: bind(eqn, [tail(*values)])[0]
    if eqn.primitive.name in (*CALLS, *CUSTOM):
        program = flatten(called(eqn))
        inner = _cut(program, producers(program.jaxpr), program.jaxpr.outvars[eqn.outvars.index(atom)])
        if inner is None:
            return None
        atoms, tail = inner
        return eqn.invars, lambda *values: tail(*run(program, atoms, values))
    before = _before_sigmoid(made_by, eqn) or _before_softmax(made_by, eqn)
    return before and ([before], lambda value: value)


def _producer(made_by: dict, atom: Any, *names: str) -> Any:
    """Return the step that computes a value, if it is one of ``names``."""
    eqn = made_by.get(atom) if not hasattr(atom, "val") else None
    return eqn if eqn is not None and (not names or eqn.primitive.name in names) else None


def _before_softmax(made_by: dict, eqn: Any) -> Any:
    """Return the logits z if a step is ``exp(z - shift) / sum(exp(z - shift))``."""
    if eqn.primitive.name != "div":
        return None
    exp, total = _producer(made_by, eqn.invars[0], "exp"), _origin(made_by, eqn.invars[1], "reduce_sum")
    other = total and _origin(made_by, total.invars[0], "exp")
    if not exp or not other or other.invars[0] is not exp.invars[0]:
        return None
    shifted = _producer(made_by, exp.invars[0], "sub")
    if shifted and _reaches(made_by, shifted.invars[1], shifted.invars[0]):
        return shifted.invars[0]
    return exp.invars[0]


def _before_sigmoid(made_by: dict, eqn: Any) -> Any:
    """Return z if a step is ``logistic(z)`` or ``1 / (1 + exp(-z))``."""
    if eqn.primitive.name == "logistic":
        return eqn.invars[0]
    total = _producer(made_by, eqn.invars[1], "add") if eqn.primitive.name == "div" and _is_one(eqn.invars[0]) else None
    terms = total.invars if total and any(map(_is_one, total.invars)) else []
    exps = [exp for exp in (_producer(made_by, term, "exp") for term in terms) if exp]
    negative = _producer(made_by, exps[0].invars[0], "neg") if exps else None
    return negative and negative.invars[0]


def _is_one(atom: Any) -> bool:
    return hasattr(atom, "val") and np.ndim(atom.val) == 0 and bool(atom.val == 1)


def _origin(made_by: dict, atom: Any, name: str) -> Any:
    """Return the step ``name`` from which only moves lead to a value."""
    eqn = _producer(made_by, atom, name, *MOVES, "broadcast_in_dim")
    return eqn if eqn is None or eqn.primitive.name == name else _origin(made_by, eqn.invars[0], name)


def _reaches(made_by: dict, atom: Any, source: Any) -> bool:
    """Return whether a value is the maximum of ``source``, moved."""
    if atom is source:
        return True
    eqn = _producer(made_by, atom, *SHIFTS)
    return eqn is not None and any(_reaches(made_by, operand, source) for operand in eqn.invars)
