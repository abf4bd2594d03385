"""Weights that are matched by the names of layers: backbones under another head, and subclassed models of Keras."""

import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.files.errors import FileError
from jaxconv.files.loading import load_weights
from tests.support.keras_files import write_hdf5
from tests.support.keras_oracle import keras, keras_rules
from tests.support.messages import facts

pytest.importorskip("h5py")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
L, KEY, X = keras.layers, jax.random.key(0), np.random.default_rng(0).normal(size=(2, 8, 3)).astype(np.float32)


def params_of(layer):
    return layer.init(KEY, (None, 8, 3))[0]


def with_head(name):
    return jc.Sequential([jc.Conv1D(4, 3, name="conv"), jc.Dense(5, name=name)])


@pytest.fixture
def trained(tmp_path):
    net = keras.Sequential([keras.Input((8, 3)), L.Conv1D(4, 3, name="conv"), L.Dense(2, name="old_head")])
    path = tmp_path / "old.weights.h5"
    net.save_weights(path)
    return path, np.asarray(net.get_layer("conv").kernel)


def test_a_backbone_is_read_under_another_head(trained):
    (path, kernel), layer = trained, with_head("new_head")
    params = params_of(layer)
    with pytest.raises(FileError, match=facts("'layers/dense/vars/0'", "layer 'old_head'", "strict=False")):
        load_weights(path, layer, params, by_name=True)
    loaded = load_weights(path, layer, params, by_name=True, strict=False)
    np.testing.assert_array_equal(loaded["conv"]["kernel"], kernel)
    np.testing.assert_array_equal(loaded["new_head"]["kernel"], params["new_head"]["kernel"])
    with pytest.raises(FileError, match=facts("old_head/bias", "(2,)", "(5,)")):
        load_weights(path, with_head("old_head"), params_of(with_head("old_head")), by_name=True, strict=False)


def test_a_file_without_any_of_the_layers_is_an_error(trained, tmp_path):
    layer = jc.Sequential([jc.Conv1D(4, 3, name="a"), jc.ReLU(), jc.Dense(2, name="b")])
    old = write_hdf5(tmp_path / "w.h5", None, {"gone": [("gone/kernel:0", np.ones((2, 9)))]}, "2.2.4")
    for path in (trained[0], old):
        with pytest.raises(FileError, match=facts("no weights", "'a', 'b'")):
            load_weights(path, layer, params_of(layer), by_name=True, strict=False)
    assert load_weights(trained[0], jc.ReLU(), {}, by_name=True, strict=False) == {}


class Block(keras.Model):
    def __init__(self):
        super().__init__()
        self.z, self.a = L.Conv1D(4, 3, name="keras_z"), L.Conv1D(4, 1)

    def call(self, x):
        return self.a(self.z(x))


class Net(keras.Model):  # Keras stores attributes after "layers" in the alphabet in another form
    def __init__(self):
        super().__init__()
        self.block, self.each = Block(), [L.Conv1D(4, 1), L.Conv1D(4, 3)]
        self.cells, self.out = L.LSTM(3), L.Dense(2, name="keras_out")

    def call(self, x):
        x = self.block(x)
        for layer in self.each:
            x = layer(x)
        return self.out(self.cells(x))


def test_a_subclassed_model_is_read_by_its_attributes(tmp_path):
    net, path = Net(), tmp_path / "net.weights.h5"
    with keras_rules():
        want = net(X)
    net.save_weights(path)
    each = [jc.Conv1D(4, 1, name="each.conv1d"), jc.Conv1D(4, 3, name="each.conv1d_1")]
    block = jc.Sequential([jc.Conv1D(4, 3, name="keras_z"), jc.Conv1D(4, 1, name="a")], name="block")
    layer = jc.Sequential([block, *each, jc.LSTM(3, name="cells"), jc.Dense(2, name="keras_out")])
    params = load_weights(path, layer, params_of(layer), by_name=True)
    np.testing.assert_allclose(layer.apply_fn(params, X), want, atol=1e-5)  # float32, another order of sums
    names = "'block', 'cells', 'each.conv1d', 'each.conv1d_1', 'keras_out'"
    for strict in (True, False):
        with pytest.raises(FileError, match=facts("subclassed", names, "by_name=True")):
            load_weights(path, layer, params_of(layer), strict=strict)
    other = jc.Sequential([*layer.layers[:-1], jc.Dense(2, name="other")])
    with pytest.raises(FileError, match=facts("(layer 'keras_out')", "strict=False")):
        load_weights(path, other, params_of(other), by_name=True)


def test_a_subclassed_model_whose_attributes_keras_does_not_name_is_read_in_order(tmp_path):
    class Late(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.more = L.Conv1D(4, 3), [L.Conv1D(4, 1), L.Dense(2)]

        def call(self, x):
            return self.more[1](self.more[0](self.one(x)))

    net, path = Late(), tmp_path / "net.weights.h5"
    with keras_rules():
        want = net(X)
    net.save_weights(path)
    layer = jc.Sequential([jc.Conv1D(4, 3), jc.Conv1D(4, 1), jc.Dense(2)])
    params = load_weights(path, layer, params_of(layer))
    np.testing.assert_allclose(layer.apply_fn(params, X), want, atol=1e-5)  # float32, another order of sums
