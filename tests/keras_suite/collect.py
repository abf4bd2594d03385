"""Collects Keras's test cases from the installed wheel, with jaxconv instead of the modules under test."""

import ast
import contextlib
import importlib
import sys
import types
import unittest
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.keras_suite import checks, left_out, surfaces
from tests.support.keras_oracle import keras, keras_rules

CONVOLUTIONS = [
    "layers.convolutional.conv_test",
    "layers.convolutional.conv_transpose_test",
    "layers.convolutional.depthwise_conv_test",
    "layers.convolutional.separable_conv_test",
    "ops.nn_test",
]
OTHERS = [
    *(f"layers.pooling.{name}_test" for name in ("average_pooling", "max_pooling")),
    *(f"layers.pooling.global_{name}_pooling_test" for name in ("average", "max")),
    *(f"layers.pooling.adaptive_pooling{rank}d_test" for rank in (1, 2, 3)),
    *(f"layers.normalization.{name}_normalization_test" for name in ("batch", "group", "layer")),
    *(f"layers.normalization.{name}_normalization_test" for name in ("rms", "spectral", "unit")),
    *(f"layers.reshaping.{name}{rank}d_test" for name in ("cropping", "up_sampling", "zero_padding") for rank in "123"),
    *(f"layers.reshaping.{name}_test" for name in ("flatten", "permute", "repeat_vector", "reshape")),
    "layers.merging.merging_test",
    *(f"layers.regularization.{name}_test" for name in ("activity_regularization", "alpha_dropout", "dropout")),
    *(f"layers.regularization.{name}_test" for name in ("gaussian_dropout", "gaussian_noise", "spatial_dropout")),
    *(f"layers.activations.{name}_test" for name in ("activation", "elu", "leaky_relu", "prelu", "relu", "softmax")),
    "activations.activations_test",
    *(f"initializers.{name}_test" for name in ("constant_initializers", "random_initializers", "initializer")),
    "regularizers.regularizers_test",
    "constraints.constraints_test",
]
RECURRENT = [
    *(f"layers.rnn.{name}_test" for name in ("simple_rnn", "lstm", "gru", "bidirectional")),
    *(f"layers.rnn.conv_lstm{rank}d_test" for rank in (1, 2, 3)),
]


@contextlib.contextmanager
def in_place() -> Iterator[None]:
    """Replace the attributes of ``keras.src`` and Keras's conftest by the stand-ins."""
    before = {name: getattr(keras.src, name) for name in surfaces.GLOBALS}
    conftest = sys.modules.get("conftest")
    theirs = types.ModuleType("conftest")
    theirs.skip_if_backend = lambda backend, reason: lambda case: case  # type: ignore[attr-defined]
    for name, surface in surfaces.GLOBALS.items():
        setattr(keras.src, name, surface)
    sys.modules["conftest"] = theirs
    try:
        yield
    finally:
        for name, module in before.items():
            setattr(keras.src, name, module)
        del sys.modules["conftest"]
        if conftest is not None:
            sys.modules["conftest"] = conftest


def load(name: str) -> Any:
    """Import one of Keras's test modules with the stand-ins."""
    with in_place(), keras_rules():
        module = importlib.import_module(f"keras.src.{name}")
    layer = name.removeprefix("layers.activations.").removesuffix("_test")
    if hasattr(module, layer) and name.startswith("layers.activations."):  # a module named after its layer
        setattr(module, layer, surfaces.LAYERS)
    for imported, own in surfaces.NAMES.items():
        if hasattr(module, imported):
            setattr(module, imported, own)
    if hasattr(module, "set_image_data_format"):
        module.set_image_data_format = surfaces.set_image_data_format
    if hasattr(module, "Model"):
        module.Model = surfaces.make_model
    if name == "ops.nn_test":
        module.knn = surfaces.KNN
    return module


def cases(name: str) -> Iterator[tuple[str, Any]]:
    """Yield (id, case class) for the cases of a module; only the convolutions of ``ops.nn_test``."""
    module = load(name)
    for cls in list(vars(module).values()):
        if isinstance(cls, type) and issubclass(cls, unittest.TestCase) and cls.__module__ == module.__name__:
            cls.run_layer_test = checks.run_layer_test
            cls.run_class_serialization_test = checks.run_class_serialization_test
            for method in unittest.TestLoader().getTestCaseNames(cls):
                if name != "ops.nn_test" or "conv" in method:
                    yield f"{name.rpartition('.')[2]}::{cls.__name__}::{method}", cls


def skipped(case: str, cls: Any) -> bool:
    """Return whether Keras skips a case, according to left_out.SKIPPED."""
    rule = next((rule for key, rule in left_out.SKIPPED.items() if case.startswith(key)), None)
    if rule is None:
        return False
    method = getattr(cls, case.rpartition("::")[2])
    arguments = getattr(method, "__x_params_repr__", "()")  # "(strides=1, padding='same')"
    call: Any = ast.parse(f"case{arguments}", mode="eval").body
    return rule({keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords})


def run(case: str, cls: Any) -> None:
    """Run a case; check that Keras skips exactly the cases of left_out.SKIPPED."""
    method = case.rpartition("::")[2]
    np.random.seed(0)  # the cases use random data, and their float32 tolerances may not hold for all seeds
    try:
        with keras_rules(), surfaces.default_data_format():
            cls(method).debug()
    except (pytest.skip.Exception, unittest.SkipTest) as why:
        assert skipped(case, cls), f"Keras skips this case, but it is not in left_out.SKIPPED: {why}"
        raise
    assert not skipped(case, cls), "Keras does not skip this case, but it is in left_out.SKIPPED"
