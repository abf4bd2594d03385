"""Attribution: how much each input contributes to a score of a model, for any function of arrays.

All methods are gradients: of the function itself, averaged over noise or along a path, or of a function in which some
steps have other derivatives (:mod:`.rectifiers`, :mod:`.deeplift`).
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from jaxconv.contract import Apply
from jaxconv.contract.apply import check_key
from jaxconv.contract.masks import as_mask, broadcast_mask, fill_masked, layouts
from jaxconv.errors import explain
from jaxconv.inspect import deeplift, rectifiers
from jaxconv.inspect import target as targets
from jaxconv.registry import nearest

Score = Callable[[Any], Array]
METHODS: dict[str, tuple[str, ...]] = {  # the options of each method
    "gradient": (),
    "input_x_gradient": (),
    "smooth": ("samples", "noise", "key"),
    "integrated": ("baseline", "steps"),
    "guided": (),
    "deconv": (),
    "deeplift": ("baseline",),
}
DEFAULTS: dict[str, Any] = {"baseline": 0, "steps": 50, "samples": 25, "noise": 0.15, "key": None}


class Attribution(NamedTuple):
    """The contribution of each input.

    values: in the structure and shapes of ``x``. delta: (batch,), for a method that divides a difference of scores: the
    sum of the values minus that difference, which is the error of the method, near 0. None for the other methods.
    """

    values: Any
    delta: Array | None


def attribute(
    f: Callable[[Any], Any],
    x: Any,
    target: targets.Target = None,
    *,
    method: str = "gradient",
    baseline: Any = None,
    steps: int | None = None,
    samples: int | None = None,
    noise: float | None = None,
    key: Any = None,
    logits: bool = True,
    mask: Any = None,
) -> Attribution:
    """Compute how much each input contributes to a score of each example.

    ==================  ===========================================================================================
    gradient            the derivative of the score, with its sign
    input_x_gradient    the derivative times the input
    smooth              SmoothGrad: the mean derivative over ``samples`` inputs with normal noise
    integrated          integrated gradients from the baseline; the values sum to the difference of the scores
    guided              guided backpropagation: at each ReLU only positive gradients pass, where its input is positive
    deconv              deconvolutional network: at each ReLU positive gradients pass, regardless of its input
    deeplift            DeepLIFT: the difference of the scores from the baseline, divided step by step
    ==================  ===========================================================================================

    For many calls give ``f`` as ``jax.tree_util.Partial(apply_fn, params)``: then all calls use one compiled program,
    which takes the arrays in the ``Partial`` as arguments. Any other function is traced at each call, because the
    objects it refers to may have changed; ``jax.jit(lambda x: attribute(f, x, 3))`` avoids that. The examples of a
    batch must not depend on each other, as at inference.

    Args:
        f: any function of arrays, batch first, whose output is a batch: ``Partial(apply_fn, params)``, a Flax module,
            ``jax.vmap(equinox_module)``.
        x: floats, batch first; several inputs as a tuple or dict, which ``f`` gets unchanged.
        target: the score, see :func:`~jaxconv.inspect.target.select`; by default the highest one of each example at
            ``x``. The class stays the same on a path or with noise.
        method: one of the table.
        baseline: of ``integrated`` and ``deeplift``: a number, or arrays that broadcast against ``x``; by default 0.
        steps: of ``integrated``: the number of points of the Gauss-Legendre rule, which are evaluated in sequence; by
            default 50.
        samples, noise, key: of ``smooth``, by default 25 and 0.15. ``noise`` is the standard deviation as a share of
            each example's ``max - min``. ``key`` is a PRNG key. The noise of an entry depends only on the key and the
            index, so that neither padding at the end nor the other examples change it.
        logits: whether to leave out a softmax or sigmoid at the end of ``f``, see
            :func:`~jaxconv.inspect.target.logits`.
        mask: True at each unmasked step, (batch, time); for several inputs in their structure, with None for an input
            without a mask. The values at masked steps are 0. ``f`` must take the mask itself:
            ``attribute(lambda x: apply_fn(params, x, mask), x, mask=mask)``.

    Returns:
        An ``Attribution``: ``values``, in the structure and shapes of ``x``, and ``delta``, the error of ``integrated``
        and ``deeplift`` for each example.

    Raises:
        ValueError: an unknown method, an option of another method, a target out of range, a baseline or mask that does
            not fit; a derivative that is not finite; a step of ``f`` for which ``deeplift`` has no rule.
        TypeError: an input of integers; a function that cannot be traced.

    >>> f = lambda x: jnp.square(x).sum(1, keepdims=True)
    >>> attribute(f, jnp.array([[1.0, 3.0]]), method="integrated", baseline=1.0).values.tolist()
    [[0.0, 8.0]]
    """
    given = {"baseline": baseline, "steps": steps, "samples": samples, "noise": noise, "key": key}
    options = _read_options(method, given)
    _check_function(f)
    if method == "smooth":
        _check_noise(options["noise"], key)
    x = jax.tree.map(_checked_input, x)
    real = _real_steps(mask, x)
    reference = _baseline(options["baseline"], x) if "baseline" in METHODS[method] else None
    arrays: dict[str, Any] = {"reference": reference, "noise": options["noise"], "key": key, "target": None}
    counts = options["steps"], options["samples"]
    with _explained():
        kept = isinstance(f, Partial) and not callable(target)
        if kept and not isinstance(target, int | tuple | None):  # the program sees only shapes: check values here
            like = jax.tree.map(lambda y: np.broadcast_to(np.zeros((), y.dtype), y.shape), jax.eval_shape(f, x))
            with explain("attribute"):
                target, arrays["target"] = None, targets.fix(like, target)
        values, delta = (_kept if kept else _compute)(f, x, real, arrays, target, method, *counts, logits)
    values = _masked(values, real)
    _check_finite(method, values, _masked(x, real))
    return Attribution(values, delta)


def _compute(
    f: Any, x: Any, real: Any, arrays: Any, target: Any, method: str, steps: int, samples: int, logits: bool
) -> tuple[Any, Array | None]:
    """Return the values, and their sum minus the difference of scores if the method divides one, otherwise None."""
    score = _score(f, x, target if arrays["target"] is None else arrays["target"], logits)
    if arrays["reference"] is not None:
        reference = arrays["reference"]
        if method == "deeplift":
            slopes, after, before = deeplift.multipliers(score, x, reference)
        else:
            slopes, after, before = _integrated(score, x, reference, steps), score(x), score(reference)
        values = _masked(jax.tree.map(lambda a, b, slope: (a - b) * slope, x, reference, slopes), real)
        sums = [leaf.reshape(len(leaf), -1).sum(1) for leaf in jax.tree.leaves(values)]
        return values, sum(one.astype(after.dtype) for one in sums) - (after - before)
    if method == "smooth":
        return _smooth(score, x, real, samples, arrays["noise"], arrays["key"]), None
    if method in ("guided", "deconv"):
        return _gradient(rectifiers.replace(score, getattr(rectifiers, method)))(x), None
    values = _gradient(score)(x)
    return jax.tree.map(jnp.multiply, x, values) if method == "input_x_gradient" else values, None


_kept = jax.jit(_compute, static_argnums=(4, 5, 6, 7, 8))  # for a Partial, whose arrays are arguments


# -- methods


def _gradient(score: Score) -> Callable[[Any], Any]:
    return jax.grad(lambda x: score(x).sum())


def _mean_gradient(score: Score, at: Callable[[Any], Any], points: Array, weights: Array, like: Any) -> Any:
    """Return the sum over points of the weight times the gradient at the input ``at(point)``, computed in sequence."""

    def add(total: Any, point: tuple[Array, Array]) -> tuple[Any, None]:
        slopes = _gradient(score)(at(point[0]))
        return jax.tree.map(lambda old, new: old + point[1].astype(new.dtype) * new, total, slopes), None

    return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, like), (points, weights))[0]


def _integrated(score: Score, x: Any, reference: Any, steps: int) -> Any:
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    dtype = jax.tree.leaves(x)[0].dtype

    def between(point: Array) -> Any:
        return jax.tree.map(lambda a, b: b + point.astype(a.dtype) * (a - b), x, reference)

    return _mean_gradient(score, between, jnp.asarray((nodes + 1) / 2, dtype), jnp.asarray(weights / 2, dtype), x)


def _smooth(score: Score, x: Any, real: Any, samples: int, share: float, key: Any) -> Any:
    leaves, tree = jax.tree.flatten(x)
    scales = [share * _range(leaf, mask) for leaf, mask in zip(leaves, real, strict=True)]

    def noisy(sample: Array) -> Any:
        drawn = jax.random.fold_in(key, sample)
        noise = [_normal(jax.random.fold_in(drawn, i), leaf.shape, leaf.dtype) for i, leaf in enumerate(leaves)]
        return jax.tree.unflatten(tree, [a + b * c for a, b, c in zip(leaves, scales, noise, strict=True)])

    return _mean_gradient(score, noisy, jnp.arange(samples), jnp.full(samples, 1 / samples, leaves[0].dtype), x)


def _range(x: Array, real: Array | None) -> Array:
    """Return the largest minus the smallest unmasked value of each example, with size 1 along the other axes."""
    axes, where = tuple(range(1, x.ndim)), None if real is None else jnp.broadcast_to(real, x.shape)
    high = x.max(axes, keepdims=True, where=where, initial=-np.inf)
    low = x.min(axes, keepdims=True, where=where, initial=np.inf)
    return jnp.maximum(high - low, jnp.zeros((), x.dtype))  # 0 for an example without unmasked steps


def _normal(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Draw normal numbers, each from the key and its own index, so that they do not depend on the size of the array."""
    keys = key[None] if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)[None]
    for size in shape:
        keys = jax.vmap(lambda k, size=size: jax.vmap(jax.random.fold_in, (None, 0))(k, jnp.arange(size)))(keys).ravel()
    return jax.vmap(lambda k: jax.random.normal(k, (), dtype))(keys).reshape(shape)


# -- inputs


def _read_options(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options, with the defaults for None. Raises ValueError for one that the method does not have."""
    if method not in (*METHODS,):
        raise ValueError(f"attribute: unknown method {method!r}; {nearest(str(method), METHODS)}")
    given = {name: value for name, value in given.items() if value is not None}
    for name in sorted(given.keys() - METHODS[method]):
        owners = " and ".join(repr(owner) for owner, names in METHODS.items() if name in names)
        raise ValueError(f"attribute: {name} is an option of {owners}, not of {method!r}")
    options = DEFAULTS | given
    for name in ("steps", "samples"):
        count = options[name]
        if not isinstance(count, int | np.integer) or count < 1:
            raise ValueError(f"attribute: {name}={count!r} is not valid; expected a positive integer")
    return options


def _check_function(f: Any) -> None:
    if isinstance(f, Apply):
        what = "f is an apply_fn, which also takes params"
        raise TypeError(f"attribute: {what}; give jax.tree_util.Partial(apply_fn, params)")
    if not callable(f):
        raise TypeError(f"attribute: f is of type {type(f).__name__}; give a function of x, as in attribute(f, x)")


def _check_noise(noise: Any, key: Any) -> None:
    if key is None:
        raise ValueError("attribute: method 'smooth' adds noise, and key is None; give key=jax.random.key(0)")
    check_key(key, "attribute")
    if isinstance(noise, jax.core.Tracer):
        return
    if isinstance(noise, str | None) or np.ndim(noise) or not noise >= 0:
        what = f"noise={noise!r} is not a share of max - min"
        raise ValueError(f"attribute: {what}; give a number of at least 0, such as 0.15")


def _score(f: Callable[[Any], Any], x: Any, target: targets.Target, logits: bool) -> Score:
    """Return the score as a function of ``x``, with the target fixed at this ``x``."""
    g = targets.logits(f) if logits else f
    y = g(x)
    with explain("attribute"):
        fixed = targets.fix(y, target)
        targets.select(y, fixed)
    batch, rows = len(jax.tree.leaves(x)[0]), jax.tree.leaves(y)[0].shape[:1]
    if rows != (batch,):
        what = f"f returns {rows[0]} rows for a batch of {batch}"
        raise ValueError(f"attribute: {what}; give a function of a batch that returns a row for each example")
    return lambda x: targets.select(g(x), fixed)


def _checked_input(x: Any) -> Array:
    if not hasattr(x, "dtype"):
        x = np.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        remedy = "convert it with x.astype(jnp.float32), or explain a function of the embedding of the integers"
        raise TypeError(f"attribute: x is of type {x.dtype}, and a gradient needs real numbers; {remedy}")
    if x.ndim < 1:
        raise ValueError("attribute: x is a single number; give a batch of examples")
    return jnp.asarray(x)


def _baseline(baseline: Any, x: Any) -> Any:
    """Return the baseline in the structure and shapes of ``x``, from a number or from arrays that broadcast."""
    if jnp.ndim(baseline) == 0 if isinstance(baseline, int | float | np.ndarray | np.generic | Array) else False:
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, baseline), x)
    structures: list[Any] = [jax.tree.structure(baseline), jax.tree.structure(x)]
    if structures[0] != structures[1]:
        what = f"baseline has the structure {structures[0]}, but x has {structures[1]}"
        raise ValueError(f"attribute: {what}; give a number, or arrays in the structure of x")

    def fit(leaf: Array, other: Any) -> Array:
        try:
            return jnp.broadcast_to(jnp.asarray(other, leaf.dtype), leaf.shape)
        except (ValueError, TypeError):
            text = f"baseline {other!r}" if isinstance(other, str) else f"baseline of shape {np.shape(other)}"
            text += f" does not broadcast to x of shape {leaf.shape}"
            raise ValueError(f"attribute: {text}; give a number, or one example") from None

    return jax.tree.map(fit, x, baseline)


def _real_steps(mask: Any, x: Any) -> list[Array | None]:
    """Return a mask that broadcasts against each input, or None for an input without one."""
    leaves = jax.tree.leaves(x)
    masks = jax.tree.leaves(mask, is_leaf=lambda entry: entry is None) if mask is not None else [None] * len(leaves)
    if len(masks) != len(leaves):
        what = f"mask has {len(masks)} parts for {len(leaves)} inputs"
        raise ValueError(f"attribute: {what}; give a mask or None for each input")

    def read(one: Any, leaf: Array) -> Array | None:
        if one is None:
            return None
        ways = layouts(leaf.ndim)
        return broadcast_mask(as_mask(one, leaf.shape, ways, "attribute", least=2), leaf.shape, ways)

    return [read(one, leaf) for one, leaf in zip(masks, leaves, strict=True)]


def _masked(values: Any, real: list[Array | None]) -> Any:
    leaves, tree = jax.tree.flatten(values)
    pairs = zip(leaves, real, strict=True)
    return jax.tree.unflatten(tree, [leaf if one is None else fill_masked(leaf, one) for leaf, one in pairs])


def _check_finite(method: str, values: Any, x: Any) -> None:
    """Raise ValueError for a derivative that is not finite. Does nothing inside ``jit``, where values are unknown."""
    for value, leaf in zip(jax.tree.leaves(values), jax.tree.leaves(x), strict=True):
        if isinstance(value, jax.core.Tracer) or bool(jnp.isfinite(value).all()):
            continue
        example, *index = map(int, np.argwhere(~np.isfinite(np.asarray(value, np.float64)))[0])
        finite = bool(jnp.isfinite(leaf[example]).all())
        why = "f is not differentiable there; give another x" if finite else "x is not finite; give finite numbers"
        what = f"the result of {method!r} for example {example} at index {tuple(index)} is not finite"
        raise ValueError(f"attribute: {what}: {why}")


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Raise TypeError with an explanation for a function that cannot be traced."""
    try:
        yield
    except jax.errors.JAXTypeError as error:  # a conversion to NumPy, or a Python condition on a traced value
        what = "f cannot be traced by JAX: it uses NumPy, or a Python condition on values"
        remedy = f"write it with jax.numpy, such as jnp.where instead of if ({str(error).split('.')[0]})"
        raise TypeError(f"attribute: {what}; {remedy}") from error
