"""Optimizers and learning-rate schedules of optax by name, found by inspection, and gradient clipping."""

import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jaxconv.dtypes import promote
from jaxconv.registry import nearest, snake_case

Schedule = Callable[[Any], Any]
Transformation: TypeAlias = optax.GradientTransformationExtraArgs

_RATE_NAMES = ("learning_rate", "max_learning_rate")
_KERAS_ARGUMENTS = {"beta_1": "b1", "beta_2": "b2", "epsilon": "eps", "rho": "decay"}
_CLIPPING = ("clipnorm", "global_clipnorm", "clipvalue")
_LENGTHS = ("decay_steps", "transition_steps")
# optax's adadelta without a rate increases the loss: its default omits the minus sign
_OWN_RATES = {"sgd": 0.01, "adadelta": 1.0}
_NOT_BY_NAME = {
    "dpsgd": "it needs a gradient per sample; use it in a training step of your own",
    "galore": "it does not accept the missing leaves of frozen weights; if there are none, pass the optax object, "
    "optax.contrib.galore(1e-3)",
    "schedule_free": "it wraps another optimizer; give schedule_free_adamw or schedule_free_sgd, or pass the optax "
    "object, optax.contrib.schedule_free(...)",
    "sophia": "it needs the loss as a function, obj_fn; use it in a training step of your own",
}


def _functions(module: Any) -> dict[str, Callable[..., Any]]:
    named = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    return {name: f for name, f in named.items() if inspect.isfunction(f) or isinstance(f, functools.partial)}


@functools.cache
def optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """Return the optimizers of optax and optax.contrib by name: every public factory with a learning rate.

    >>> "adamw" in optimizers() and "muon" in optimizers()
    True
    """
    return {
        name: factory
        for name, factory in (_functions(optax.contrib) | _functions(optax)).items()
        if not name.startswith("scale_by_")
        and name not in _NOT_BY_NAME
        and any(rate in inspect.signature(factory).parameters for rate in _RATE_NAMES)
    }


@functools.cache
def schedules() -> dict[str, Callable[..., Schedule]]:
    """Return optax's learning-rate schedules by name, each with and without the suffix ``_schedule``.

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
    """Build a learning-rate schedule: a function from the step, counted from 0, to the learning rate.

    Args:
        spec: a number (a constant rate), a table with the name of an optax schedule and its arguments, or a callable.
            Lengths are in steps. ``piecewise_constant`` takes ``boundaries_and_scales`` with steps as keys (strings in
            TOML), ``join_schedules`` takes a list of such tables.
        steps: the length of the whole run, the default of ``decay_steps`` and ``transition_steps``.

    Returns:
        The schedule of optax; a callable is returned unchanged.

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
        name, arguments = _name_and_arguments(spec, "learning-rate schedule")
        factory = _find(name, schedules(), "learning-rate schedule")
        built = _call_factory(name, factory, _schedule_arguments(factory, arguments, steps))
        for step in (0, steps or 0):
            if not 0 <= (rate := _rate_at_step(built, step)) < math.inf:
                raise ValueError(f"{name}: the learning rate of step {step} is {rate}; expected finite, and at least 0")
        return built
    if isinstance(spec, bool) or not isinstance(spec, int | float):
        got = f"learning_rate is {spec!r}, of type {type(spec).__name__}"
        raise TypeError(f"{got}; give a number, a function of the step, or a table with the name of a schedule")
    if not math.isfinite(spec) or spec < 0:
        raise ValueError(f"learning_rate is {spec}; expected a finite number of at least 0")
    return optax.constant_schedule(spec)


def _schedule_arguments(factory: Callable[..., Any], arguments: dict[str, Any], steps: int | None) -> dict[str, Any]:
    parameters = inspect.signature(factory).parameters
    if steps is not None:
        arguments = {name: steps for name in _LENGTHS if name in parameters} | arguments
    if isinstance(arguments.get("boundaries_and_scales"), Mapping):
        scales = arguments["boundaries_and_scales"]
        arguments["boundaries_and_scales"] = {int(step): scale for step, scale in scales.items()}
    if "schedules" in arguments:
        arguments["schedules"] = [schedule(part, steps) for part in arguments["schedules"]]
    return arguments


def optimizer(spec: Any, steps: int | None = None, clip_norm: float | None = None) -> Transformation:
    """Build an optimizer from its name in optax and its arguments.

    Defaults are those of optax; ``eps`` (1e-8) and ``weight_decay`` differ from Keras. If optax has no default for the
    learning rate, Keras's is used (0.001; 0.01 for ``sgd``); ``adadelta`` uses 1.0, as in its paper. Keras's names for
    arguments (``beta_1``, ``beta_2``, ``epsilon``, ``rho``) are accepted. Three more options clip gradients as in
    Keras, and at most one of them may be given: ``clipnorm`` (the norm of each weight's gradient), ``global_clipnorm``
    (the norm of all gradients together) and ``clipvalue`` (each entry).

    Args:
        spec: a name, a table such as ``{"name": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-4}``, or an optax
            transformation, which is returned unchanged. ``learning_rate`` is anything that :func:`schedule` accepts.
        steps: the length of the whole run, for schedules without a length.
        clip_norm: the largest norm of all gradients together, for any spec.

    Returns:
        The transformation of optax.

    Raises:
        ValueError: an unknown name or argument (the message has the nearest valid one), or an invalid value.
        TypeError: not a name, a table or an optax transformation.

    >>> opt = optimizer({"name": "sgd", "learning_rate": {"name": "cosine_decay", "init_value": 0.1}}, steps=1000)
    >>> sgd = optimizer({"name": "sgd", "learning_rate": 0.5})
    >>> float(sgd.update(jnp.float32(2.0), sgd.init(jnp.float32(0.0)))[0])
    -1.0
    """
    if clip_norm is not None:
        return _clipped(optimizer(spec, steps), clip_norm)
    if hasattr(spec, "init") and hasattr(spec, "update"):
        return optax.with_extra_args_support(spec)
    try:
        text = json.dumps(spec, sort_keys=True)
    except TypeError:  # it contains a callable
        return _build_optimizer(spec, steps)
    return _cached_optimizer(text, steps)


@functools.lru_cache(maxsize=64)  # one object for equal specs, so that compiled functions are reused
def _cached_optimizer(text: str, steps: int | None) -> Transformation:
    return _build_optimizer(json.loads(text), steps)


def _build_optimizer(spec: Any, steps: int | None) -> Transformation:
    name, arguments = _name_and_arguments(spec, "optimizer")
    clip = _clip_transformation(name, {key: arguments.pop(key) for key in _CLIPPING if arguments.get(key) is not None})
    factory = _find(name, optimizers(), "optimizer")
    parameters = inspect.signature(factory).parameters
    arguments = {_KERAS_ARGUMENTS.get(key, key) if key not in parameters else key: arguments[key] for key in arguments}
    for rate in _RATE_NAMES:
        if rate in arguments:
            built = schedule(arguments[rate], steps)  # for a number, only a check: some factories need the number
            arguments[rate] = arguments[rate] if isinstance(arguments[rate], int | float) else built
        elif rate in parameters and _default_rate(factory) is not None:
            arguments[rate] = _default_rate(factory)
    if "key" in parameters:  # optax expects a key; a config gives a number
        arguments["key"] = jax.random.key(arguments.pop("seed", None) or 0)
    transformation = _call_factory(name, factory, arguments, also=_CLIPPING)
    return optax.with_extra_args_support(optax.chain(clip, transformation) if clip else transformation)


def learning_rate(spec: Any, steps: int | None = None) -> Callable[[int], float] | None:
    """Return the learning rate of an optimizer as a function of the step, or None if the spec does not define it.

    >>> learning_rate("adam")(0)
    0.001
    """
    if not isinstance(spec, str | Mapping):
        return None
    name, arguments = _name_and_arguments(spec, "optimizer")
    value = _default_rate(_find(name, optimizers(), "optimizer"))
    for rate in _RATE_NAMES:
        value = arguments.get(rate, value)
    return None if value is None else functools.partial(_rate_at_step, schedule(value, steps))


def with_learning_rate(spec: Any, rate: Any) -> dict[str, Any]:
    """Return the table of an optimizer, given by name or table, with another learning rate.

    >>> with_learning_rate({"name": "adam", "b1": 0.8}, 0.1)
    {'name': 'adam', 'b1': 0.8, 'learning_rate': 0.1}
    """
    name, arguments = _name_and_arguments(spec, "optimizer")
    parameters = inspect.signature(_find(name, optimizers(), "optimizer")).parameters
    [key] = [rate_name for rate_name in _RATE_NAMES if rate_name in parameters]
    return {"name": name, **arguments, key: rate}


def _rate_at_step(schedule_fn: Schedule, step: int) -> float:
    with jax.numpy_dtype_promotion("standard"):  # optax relies on it
        return float(schedule_fn(step))


def _default_rate(factory: Callable[..., Any]) -> Any:
    """Return the default learning rate of an optimizer, or None if it computes its own."""
    parameters = inspect.signature(factory).parameters
    [default] = [parameters[rate].default for rate in _RATE_NAMES if rate in parameters]
    own = _OWN_RATES.get(getattr(factory, "__name__", ""))
    return own or (0.001 if default is inspect.Parameter.empty else default)


def _name_and_arguments(spec: Any, kind: str) -> tuple[str, dict[str, Any]]:
    arguments = {"name": spec} if isinstance(spec, str) else dict(spec) if isinstance(spec, Mapping) else {}
    if not arguments:
        more = ", or an optax transformation such as optax.adam(1e-3)" if kind == "optimizer" else ""
        raise TypeError(f"the {kind} is {spec!r}; give a name or a table with a name{more}")
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        example = "adam" if kind == "optimizer" else "cosine_decay"
        raise ValueError(f"{kind} {spec!r} has no 'name'; give one, such as name = {example!r}")
    return name, arguments


def _find(name: str, table: Mapping[str, Any], kind: str) -> Any:
    for spelling in (name, name.lower(), snake_case(name)):
        if spelling in table:
            return table[spelling]
    if name in _NOT_BY_NAME:
        raise ValueError(f"{kind} {name!r} is not available by name: {_NOT_BY_NAME[name]}")
    raise ValueError(f"unknown {kind} {name!r}; {nearest(name, table)}")


def _call_factory(
    name: str, factory: Callable[..., Any], arguments: Mapping[str, Any], also: tuple[str, ...] = ()
) -> Any:
    """Call ``factory`` after checking the names of its arguments."""
    parameters = inspect.signature(factory).parameters
    for key in arguments:
        if key not in parameters:
            raise ValueError(f"{name}: no argument {key!r}; {nearest(key, [*parameters, *also])}")
    missing = [key for key, p in parameters.items() if p.default is inspect.Parameter.empty and key not in arguments]
    if missing:
        raise ValueError(f"{name}: missing {', '.join(missing)}; got {', '.join(arguments) or 'no arguments'}")
    try:
        return factory(**arguments)
    except (TypeError, AttributeError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ValueError(f"{name}: optax rejects {given}: {error}") from error


def _clip_transformation(name: str, options: Mapping[str, Any]) -> optax.GradientTransformation | None:
    if not options:
        return None
    if len(options) > 1:
        raise ValueError(f"{name}: {' and '.join(options)} are given; give only one of them")
    [(kind, limit)] = options.items()
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
        raise ValueError(f"{name}: {kind} is {limit!r}; expected a number above 0")
    if kind == "clipvalue":
        return optax.clip(limit)

    def clip(gradients: Any, params: Any) -> Any:
        if kind == "global_clipnorm":
            return _clip_norm(gradients, limit)
        return jax.tree.map(lambda gradient: _clip_norm(gradient, limit), gradients)

    return optax.stateless(clip)


@functools.lru_cache(maxsize=64)  # as in _cached_optimizer
def _clipped(transformation: Transformation, clip_norm: float) -> Transformation:
    """Return a transformation of gradients that are first scaled down to a common norm of at most ``clip_norm``."""
    clip = optax.stateless(lambda gradients, params: _clip_norm(gradients, clip_norm))
    return optax.with_extra_args_support(optax.chain(clip, transformation))


def _clip_norm(gradients: Any, limit: float) -> Any:
    """Scale gradients down to a common norm of at most ``limit``, computed in float32 for 16-bit floats."""
    dtype = promote(jnp.float32, *jax.tree.leaves(gradients))
    norm = optax.tree.norm(jax.tree.map(lambda gradient: gradient.astype(dtype), gradients))
    scale = limit / jnp.maximum(norm, limit)
    return jax.tree.map(lambda gradient: (gradient.astype(dtype) * scale).astype(gradient.dtype), gradients)
