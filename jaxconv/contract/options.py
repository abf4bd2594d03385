"""The options of a layer, which are its dataclass fields: conversion to canonical form, and the config."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxconv import activations, constraints, data_format, initializers, regularizers
from jaxconv.contract.complete import class_problem
from jaxconv.contract.policy import policy_name
from jaxconv.contract.shapes import as_shape
from jaxconv.errors import explain
from jaxconv.registry import nearest, plain

# the ending of a field's name -> the table that its value is looked up in
TABLES: dict[str, Any] = {
    "initializer": initializers,
    "regularizer": regularizers,
    "constraint": constraints,
    "activation": activations,
}


def check_arguments(cls: type, args: Sequence[Any], given: Mapping[str, Any]) -> None:
    """Check the arguments of a layer class.

    Raises ValueError for an unknown keyword, TypeError for too many positional arguments or an incomplete class.
    """
    if problem := class_problem(cls):
        raise TypeError(problem)
    positional = [field.name for field in dataclasses.fields(cls) if field.init and not field.kw_only]
    if len(args) > len(positional):
        hint = "; give the layers in one list" if all(hasattr(one, "init_params") for one in args) else ""
        takes = f"{cls.__name__}({', '.join(positional)})"
        raise TypeError(f"{cls.__name__}: {len(args)} arguments without keywords; the order is {takes}{hint}")
    allowed = [field.name for field in dataclasses.fields(cls) if field.init]
    for name in given:
        if name not in allowed:
            raise ValueError(f"{cls.__name__}: unknown argument {name!r} = {given[name]!r}; {nearest(name, allowed)}")


def canonical_options(layer: Any) -> None:
    """Convert the options that any layer may have to canonical form: name, bools, dtype, shapes, format, tables."""
    where = type(layer).__name__
    if layer.name is not None and (not isinstance(layer.name, str) or not layer.name or "/" in layer.name):
        raise ValueError(f"{where}: name={layer.name!r} is not valid; give a non-empty string without '/'")
    for name in [field.name for field in dataclasses.fields(layer) if field.type is bool]:
        if not isinstance(getattr(layer, name), bool | np.bool_):
            raise ValueError(f"{where}: {name}={getattr(layer, name)!r} is not a bool; give True or False")
        layer._set(**{name: bool(getattr(layer, name))})
    layer._set(dtype=policy_name(layer.dtype, where))
    if layer.input_shape is not None:
        layer._set(input_shape=as_shape(layer.input_shape, f"{where}: input_shape"))
    if hasattr(layer, "data_format"):
        layer._set(data_format=data_format.canonical(layer.data_format, where))
    for name, check in layer.checks.items():
        if hasattr(layer, name):
            layer._set(**{name: check(getattr(layer, name), name, where)})
    filter_axes = {prefix: layer.filter_axes(leaf) for leaf, prefix in layer.leaves.items()}
    for field in dataclasses.fields(layer):
        prefix, _, ending = field.name.rpartition("_")
        if ending in TABLES:
            more = {"filter_axes": filter_axes.get(prefix)} if ending in ("regularizer", "constraint") else {}
            with explain(f"{where}: {field.name}"):
                layer._set(**{field.name: _look_up(layer, field, TABLES[ending], more)})


def _look_up(layer: Any, field: dataclasses.Field, table: Any, more: dict[str, Any]) -> Any:
    value = getattr(layer, field.name)
    if value is None and field.name.endswith("initializer"):
        value = field.default  # as the reference page documents it, for the bias too
    if hasattr(value, "init_params"):
        raise TypeError(f"it is a layer, {value!r}; give a function, or put the layer after this one")
    entry = table.get(value, **more)
    try:
        hash(entry)
    except TypeError:
        raise TypeError(f"{entry!r} has no hash, which jit needs; make its class a frozen dataclass") from None
    return entry


def to_config(layer: Any) -> dict[str, Any]:
    """Return the options as Keras 3 writes them: plain values that JSON can represent."""
    config = {}
    for field in dataclasses.fields(layer):
        value, ending = getattr(layer, field.name), field.name.rpartition("_")[2]
        beyond = field.name in layer.beyond_keras or field.name == "input_shape"
        if field.init and field.compare and not (beyond and value == field.default):
            config[field.name] = TABLES[ending].serialize(value) if ending in TABLES else plain(value)
    return config
