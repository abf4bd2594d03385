"""Optimizers, learning-rate schedules and gradient clipping by name: everything optax has, found by inspection.

Knows optax and numbers: no models, no losses, no data.
"""

import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jaxconv.registry import nearest, snake_case

Schedule = Callable[[Any], Any]

_RATES = ("learning_rate", "max_learning_rate")
_KERAS_ARGUMENTS = {"beta_1": "b1", "beta_2": "b2", "epsilon": "eps", "rho": "decay"}
_CLIPPING = ("clipnorm", "global_clipnorm", "clipvalue")
_LENGTHS = ("decay_steps", "transition_steps")
_OWN_RATES = {"sgd": 0.01, "adadelta": 1.0}  # optax's adadelta without a rate climbs: its default drops the sign
_NOT_BY_NAME = {
    "dpsgd": "it needs a gradient per sample",
    "galore": "it cannot skip the places of frozen weights",
    "schedule_free": "it wraps another optimizer; legal: schedule_free_adamw, schedule_free_sgd",
    "sophia": "it needs a key for each step",
}


def _functions(module: Any) -> dict[str, Callable[..., Any]]:
    named = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    return {name: f for name, f in named.items() if inspect.isfunction(f) or isinstance(f, functools.partial)}


@functools.cache
def optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """List the optimizers of optax and optax.contrib: every public factory that takes a learning rate.

    >>> "adamw" in optimizers() and "muon" in optimizers()
    True
    """
    return {
        name: factory
        for name, factory in (_functions(optax.contrib) | _functions(optax)).items()
        if not name.startswith("scale_by_")
        and name not in _NOT_BY_NAME
        and any(rate in inspect.signature(factory).parameters for rate in _RATES)
    }


@functools.cache
def schedules() -> dict[str, Callable[..., Schedule]]:
    """List optax's learning-rate schedules, each with and without the ending ``_schedule``.

    >>> "cosine_decay" in schedules() and "cosine_decay_schedule" in schedules()
    True
    """
    found = {
        name: factory
        for name, factory in _functions(optax.schedules).items()
        if name.endswith(("_schedule", "_decay", "_schedules"))
    }
    return found | {name.removesuffix("_schedule"): factory for name, factory in found.items()}


def schedule(spec: Any, steps: int | None = None) -> Schedule:
    """Build a learning-rate schedule: step -> rate, the first step being 0.

    Args:
        spec: a number (a constant rate), a table with the name of an optax schedule and its arguments, or a callable.
            Lengths are in steps. ``piecewise_constant`` takes ``boundaries_and_scales`` with steps as keys (strings in
            TOML), ``join_schedules`` takes a list of such tables.
        steps: the length of the whole run; a length (``decay_steps``, ``transition_steps``) that is not given is this.

    Raises:
        ValueError: an unknown name or argument, a missing argument, a rate that is negative or not finite.
        TypeError: not a number, a table or a callable.

    >>> rate = schedule({"name": "cosine_decay", "init_value": 0.5}, steps=100)
    >>> float(rate(0)), float(rate(100))
    (0.5, 0.0)
    """
    if callable(spec):
        return spec
    if isinstance(spec, Mapping):
        name, arguments = _named(spec, "learning-rate schedule")
        factory = _lookup(name, schedules(), "learning-rate schedule")
        return _built(name, factory, _schedule_arguments(factory, arguments, steps))
    if isinstance(spec, bool) or not isinstance(spec, int | float):
        raise TypeError(f"cannot read learning_rate={spec!r}; give a number, or a table with the name of a schedule")
    if not math.isfinite(spec) or spec < 0:
        raise ValueError(f"learning_rate is {spec}; legal: a finite number of at least 0")
    return optax.constant_schedule(spec)


def _schedule_arguments(factory: Callable[..., Any], arguments: dict[str, Any], steps: int | None) -> dict[str, Any]:
    known = inspect.signature(factory).parameters
    if steps is not None:
        arguments = {name: steps for name in _LENGTHS if name in known} | arguments
    if isinstance(arguments.get("boundaries_and_scales"), Mapping):
        scales = arguments["boundaries_and_scales"]
        arguments["boundaries_and_scales"] = {int(step): scale for step, scale in scales.items()}
    if "schedules" in arguments:
        arguments["schedules"] = [schedule(part, steps) for part in arguments["schedules"]]
    return arguments


def optimizer(spec: Any, steps: int | None = None) -> optax.GradientTransformationExtraArgs:
    """Build an optimizer by the name optax has for it.

    Defaults are optax's, which for ``eps`` (1e-8) and ``weight_decay`` are not Keras's; where optax demands a learning
    rate, Keras's default stands in (0.001; 0.01 for ``sgd``), and ``adadelta`` starts at its paper's 1.0. Keras's names
    for arguments (``beta_1``, ``beta_2``, ``epsilon``, ``rho``) are understood. Three further options clip gradients as
    Keras does, one at a time: ``clipnorm`` (the norm of each weight's gradient), ``global_clipnorm`` (the norm of all
    gradients together) and ``clipvalue`` (each entry).

    Args:
        spec: a name, a table such as ``{"name": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-4}``, or an optax
            transformation, which passes as it is. ``learning_rate`` may be anything that :func:`schedule` reads.
        steps: the length of the whole run, for schedules that are not given theirs.

    Raises:
        ValueError: an unknown name or argument (with the nearest legal one), or an illegal value.
        TypeError: none of the three.

    >>> opt = optimizer({"name": "sgd", "learning_rate": {"name": "cosine_decay", "init_value": 0.1}}, steps=1000)
    """
    if hasattr(spec, "init") and hasattr(spec, "update"):
        return optax.with_extra_args_support(spec)
    try:
        text = json.dumps(spec, sort_keys=True)
    except TypeError:  # it holds a callable
        return _made(spec, steps)
    return _made_once(text, steps)


@functools.lru_cache(maxsize=64)  # one object for equal specs, so that what is compiled with it can be found again
def _made_once(text: str, steps: int | None) -> optax.GradientTransformationExtraArgs:
    return _made(json.loads(text), steps)


def _made(spec: Any, steps: int | None) -> optax.GradientTransformationExtraArgs:
    name, arguments = _named(spec, "optimizer")
    clip = _clipping(name, {key: arguments.pop(key) for key in _CLIPPING if arguments.get(key) is not None})
    factory = _lookup(name, optimizers(), "optimizer")
    known = inspect.signature(factory).parameters
    arguments = {_KERAS_ARGUMENTS.get(key, key) if key not in known else key: arguments[key] for key in arguments}
    for rate in _RATES:
        if rate in arguments:
            arguments[rate] = _rate(arguments[rate], steps)
        elif rate in known and _default_rate(factory) is not None:
            arguments[rate] = _default_rate(factory)
    if "key" in known:  # optax wants a key; a config gives a number
        arguments["key"] = jax.random.key(arguments.pop("seed", None) or 0)
    made = _built(name, factory, arguments, also=_CLIPPING)
    return optax.with_extra_args_support(optax.chain(clip, made) if clip else made)


def learning_rate(spec: Any, steps: int | None = None) -> Callable[[int], float] | None:
    """Give the learning rate of an optimizer: step -> rate. None where the spec does not tell it.

    Args:
        spec, steps: as in :func:`optimizer`.

    >>> learning_rate("adam")(0)
    0.001
    """
    if not isinstance(spec, str | Mapping):
        return None
    name, arguments = _named(spec, "optimizer")
    value = _default_rate(_lookup(name, optimizers(), "optimizer"))
    for rate in _RATES:
        value = arguments.get(rate, value)
    return None if value is None else functools.partial(_rate_at, schedule(value, steps))


def _rate_at(made: Schedule, step: int) -> float:
    with jax.numpy_dtype_promotion("standard"):  # optax relies on it
        return float(made(step))


def _default_rate(factory: Callable[..., Any]) -> Any:
    """Give the learning rate of an optimizer that is not told one; None where it finds its own."""
    known = inspect.signature(factory).parameters
    [default] = [known[rate].default for rate in _RATES if rate in known]
    own = _OWN_RATES.get(getattr(factory, "__name__", ""))
    return own or (0.001 if default is inspect.Parameter.empty else default)


def _rate(value: Any, steps: int | None) -> Any:
    """Check a rate; a number stays one, so that factories which need a number get it."""
    made = schedule(value, steps)
    return value if isinstance(value, int | float) else made


def _named(spec: Any, kind: str) -> tuple[str, dict[str, Any]]:
    arguments = {"name": spec} if isinstance(spec, str) else dict(spec) if isinstance(spec, Mapping) else {}
    if not arguments:
        more = ", or an optax transformation such as optax.adam(1e-3)" if kind == "optimizer" else ""
        raise TypeError(f"cannot read {spec!r} as {kind}; give a name or a table with a name{more}")
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"{kind} {spec!r} has no 'name'; give one, such as name = 'adam'")
    return name, arguments


def _lookup(name: str, table: Mapping[str, Any], kind: str) -> Any:
    for spelling in (name, name.lower(), snake_case(name)):
        if spelling in table:
            return table[spelling]
    if name in _NOT_BY_NAME:
        raise ValueError(f"{kind} {name!r} cannot be had by name: {_NOT_BY_NAME[name]}")
    raise ValueError(f"unknown {kind} {name!r}; {nearest(name, table)}")


def _built(name: str, factory: Callable[..., Any], arguments: Mapping[str, Any], also: tuple[str, ...] = ()) -> Any:
    """Call ``factory`` after a check of its arguments by name."""
    known = inspect.signature(factory).parameters
    for key in arguments:
        if key not in known:
            raise ValueError(f"{name} has no argument {key!r}; {nearest(key, [*known, *also])}")
    missing = [key for key, p in known.items() if p.default is inspect.Parameter.empty and key not in arguments]
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)}; got {', '.join(arguments) or 'nothing'}")
    try:
        return factory(**arguments)
    except (TypeError, AttributeError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ValueError(f"{name} does not take {given}: {error}") from error


def _clipping(name: str, options: Mapping[str, Any]) -> optax.GradientTransformation | None:
    if not options:
        return None
    if len(options) > 1:
        raise ValueError(f"{name}: {' and '.join(options)} are both given; one kind of clipping is legal")
    [(kind, limit)] = options.items()
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
        raise ValueError(f"{name}: {kind} is {limit!r}; legal: a number above 0")
    if kind == "global_clipnorm":
        return optax.clip_by_global_norm(limit)
    return optax.clip(limit) if kind == "clipvalue" else _clip_each_norm(limit)


def _clip_each_norm(limit: float) -> optax.GradientTransformation:
    def clipped(gradient: jax.Array) -> jax.Array:
        norm = jnp.sqrt(jnp.sum(jnp.square(gradient.astype(jnp.float32))))
        return gradient * (limit / jnp.maximum(norm, limit)).astype(gradient.dtype)

    return optax.stateless(lambda gradients, _: jax.tree.map(clipped, gradients))
