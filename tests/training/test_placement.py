"""fit, evaluate and predict over several devices: the numbers of one device; what cannot be sharded is refused."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxconv.layers.dense import Dense
from jaxconv.layers.dropout import Dropout
from jaxconv.layers.normalization import BatchNormalization
from jaxconv.models import Sequential
from jaxconv.training import evaluate, fit, predict

P = PartitionSpec
RNG = np.random.default_rng(3)
X = RNG.normal(size=(37, 4)).astype(np.float32)
Y = (X.sum(1) > 0).astype(np.int64)
LAYER = Sequential([Dense(5, activation="tanh"), BatchNormalization(), Dropout(0.4), Dense(2, activation="softmax")])
PARAMS, APPLY = LAYER.init(jax.random.key(0), (None, 4))
OPTIONS = {"loss": "sparse_categorical_crossentropy", "batch_size": 16}


def train(**options):
    return fit(APPLY, PARAMS, X, Y, **OPTIONS | {"epochs": 2, "validation_data": (X, Y)} | options)


def assert_close(a, b, tolerance=1e-6):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", [{}, {"accumulate": 2, "ema": 0.9, "clip_norm": 1.0, "class_weight": {0: 2.0}}])
def test_the_numbers_are_those_of_one_device(options):
    """37 samples in batches of 16: the last batch does not divide over eight devices."""
    meshes = jax.make_mesh((8,), ("z",)), jax.make_mesh((2, 4), ("z", "r"))
    one = train(**options)
    for sharding in ("data", P("rows"), *(NamedSharding(mesh, P(mesh.axis_names)) for mesh in meshes)):
        many = train(sharding=sharding, **options)
        assert_close(many.history, one.history)
        assert_close(many.params, one.params)
        evaluated = evaluate(APPLY, many.params, X, Y, **OPTIONS, sharding=sharding)
        assert_close(evaluated, evaluate(APPLY, one.params, X, Y, **OPTIONS))
        assert_close(predict(APPLY, many.params, X, 16, sharding=sharding), predict(APPLY, one.params, X, 16))
