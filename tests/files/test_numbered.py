"""The numbers of groups in ``.keras`` files of Keras 2.12 to 2.14, which count layers with weights once or twice."""

import numpy as np
import pytest

from jaxconv.files.loading import load_model
from tests.support.keras_files import functional, layer, sequential, write_keras

pytest.importorskip("h5py")
RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def numbered(store, layers, kernels, step):
    """Put kernels under the groups of layers, counted as Keras 2.13 (step 2) or 2.14 (step 1) counts them."""
    for number, (kernel, name) in enumerate(zip(kernels, layers, strict=True)):
        store[f"_layer_checkpoint_dependencies/{name}{f'_{number * step}' if number else ''}/vars/0"] = kernel


@pytest.mark.parametrize("step", [2, 1], ids=["2.13", "2.14"])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_layers_with_weights_are_counted_twice_until_keras_2_13_and_once_in_2_14(step, count, tmp_path):
    names = [f"c{number}" for number in range(count)]
    convolutions = [layer("Conv1D", name, filters=2, kernel_size=[1], use_bias=False) for name in names]
    convolutions[0]["config"]["batch_input_shape"] = [None, 4, 2]
    config = sequential(*convolutions, layer("Activation", "r", activation="relu"))
    kernels, tables = [draw(1, 2, 2) for _ in names], {}
    numbered(tables, ["conv1d"] * count, kernels, step)
    path = write_keras(tmp_path / "m.keras", config, tables, "2.14.0")
    for name, kernel in zip(names, kernels, strict=True):
        np.testing.assert_array_equal(load_model(path)[0][name]["kernel"], kernel)
    if count > 2:
        np.testing.assert_array_equal(load_model(path, until="c1")[0]["c1"]["kernel"], kernels[1])


@pytest.mark.parametrize("doubled", [True, False], ids=["2.13", "2.14"])
def test_a_shared_layer_is_counted_again_until_keras_2_13(doubled, tmp_path):
    def dense(name, shared_id, calls=None, **config):
        entry = layer("Dense", name, calls, units=2, use_bias=False, **config)
        return {**entry, "shared_object_id": shared_id}

    def inner(name, call, *layers):
        entry = sequential(layer("InputLayer", f"{name}_in", batch_input_shape=[None, 2]), *layers)
        return {**entry, "name": name, "config": {**entry["config"], "name": name}, "inbound_nodes": call}

    source = layer("InputLayer", "x", [], batch_input_shape=[None, 2])
    entries = [source, dense("s", 1, [[["x", 0, 0, {}]]]),
               inner("n", [[["s", 0, 0, {}]]], dense("a", 2), dense("s", 1), dense("b", 3))]  # fmt: skip
    one, two, three = draw(2, 2), draw(2, 2), draw(2, 2)
    top = "_layer_checkpoint_dependencies"
    below = f"{top}/sequential/{top}/dense"  # as TensorFlow 2.13.1 and 2.14.1 wrote it
    tables = {f"{top}/dense/vars/0": one, f"{below}/vars/0": two, f"{below}_{4 if doubled else 1}/vars/0": three}
    config = functional(entries, [["x", 0, 0]], [["n", 1, 0]])
    params, apply_fn = load_model(write_keras(tmp_path / "m.keras", config, tables, "2.14.0"))
    x = draw(3, 2)
    np.testing.assert_allclose(apply_fn(params, x), x @ one @ two @ one @ three, atol=1e-5)
