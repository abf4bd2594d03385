"""Good files of every format that the package reads, small, and how to damage each of them."""

import functools
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import jax
import ml_dtypes
import numpy as np

import jaxconv as jc
from jaxconv.kernels import tuning_cache
from jaxconv.serving import export
from jaxconv.training.checkpoint import Progress, save
from jaxconv.training.optimizers import optimizer
from jaxconv.training.step import init_state
from tests.support import damage
from tests.support.bounded import digest
from tests.support.keras_files import functional, layer, sequential, write_hdf5, write_keras
from tests.support.small_run import write_small_run

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def _drawn(net, shape=None):
    """Return params of a model without compiling its initializers."""
    shapes = jax.eval_shape(lambda key: net.init(key, *([shape] if shape else []))[0], jax.random.key(0))
    return jax.tree.map(lambda leaf: jax.numpy.asarray(abs(draw(*leaf.shape))), shapes)


@functools.cache
def layer_and_params():
    """Return the layer that files of weights are read into."""
    net = jc.Sequential([jc.Conv1D(2, 3, name="conv"), jc.BatchNormalization(name="norm"), jc.Dense(2, name="head")])
    return net, _drawn(net, (None, 8, 3))


@functools.cache
def state_and_run():
    """Return the initial state and the facts of the run that checkpoints are read into."""
    net, params = layer_and_params()
    return init_state(net.apply_fn, params, optimizer("adam")), {"seed": 0, "batch_size": 32}


# -- the files


def jaxconv_model(path):
    """A graph of jaxconv with parts that Keras has not, and what a run adds to it."""
    x = jc.Input((8, 3), name="signal")
    body = jc.Sequential([jc.Conv1D(4, 3, kernel_constraint="max_norm"), jc.BatchNormalization(), jc.ReLU()], name="b")
    y = jc.Concatenate()([body(x), jc.Residual([jc.Conv1D(4, 3, padding="same")])(body(x))])
    net = jc.Model(x, jc.TimeDistributed(jc.Dense(2, activation="softmax"))(y))
    about = {"name": "run", "test": {"loss": 1.0}, "classes": ["no", "yes"]}
    jc.save_model(path, net, _drawn(net), about=about)


def keras_3(path):
    """A graph with a function of arrays, in the calls of Keras 3."""

    def tensor(name):
        return {"class_name": "__keras_tensor__", "config": {"shape": [None, 8, 3], "keras_history": [name, 0, 0]}}

    def calls(*args):
        return [{"args": list(args), "kwargs": {}}]

    layers = [
        {**layer("InputLayer", "i", [], batch_shape=[None, 8, 3]), "module": "keras.layers"},
        {**layer("TrueDivide", "scale", calls(tensor("i"), 127.5)), "module": "keras.src.ops.numpy"},
        {**layer("Conv1D", "c", calls(tensor("scale")), filters=4, kernel_size=[3], padding="same",
                 kernel_initializer={"module": "keras.initializers", "class_name": "GlorotUniform",
                                     "config": {"seed": None}, "registered_name": None}), "module": "keras.layers"},
        {**layer("Add", "a", calls([tensor("c"), tensor("c")])), "module": "keras.layers"},
    ]  # fmt: skip
    config = functional(layers, [["i", 0, 0]], [["a", 0, 0]])
    tables = {"layers/conv1d/vars/0": draw(3, 3, 4), "layers/conv1d/vars/1": draw(4)}
    write_keras(path, config, tables)


def keras_213(path):
    config = sequential(layer("Dense", "d", units=4, batch_input_shape=[None, 3]), layer("Dense", "e", units=2))
    top = "_layer_checkpoint_dependencies/dense"
    shapes = {"/vars/0": (3, 4), "/vars/1": (4,), "_2/vars/0": (4, 2), "_2/vars/1": (2,)}
    write_keras(path, config, {top + name: draw(*shape) for name, shape in shapes.items()}, "2.13.1")


def keras_2(path):
    """A graph with a model inside, layers with statistics, and a layer that is called twice."""
    inside = functional(
        [
            layer("InputLayer", "j", [], batch_input_shape=[None, 8, 4]),
            layer("BatchNormalization", "n", [[["j", 0, 0, {}]]], axis=[2]),
        ],
        [["j", 0, 0]],
        [["n", 0, 0]],
        "inside",
    )
    constraint = {"class_name": "MaxNorm", "config": {"max_value": 2, "axis": 0}}
    graph = functional(
        [
            layer("InputLayer", "i", [], batch_input_shape=[None, 8, 3]),
            layer("Conv1D", "c", [[["i", 0, 0, {}]]], filters=4, kernel_size=[3], padding="same",
                  kernel_constraint=constraint, activation="relu", strides=[1], dilation_rate=[1]),
            {**inside, "name": "inside", "inbound_nodes": [[["c", 0, 0, {}]], [["c", 0, 0, {}]]]},
            layer("Add", "a", [[["inside", 1, 0, {}], ["inside", 2, 0, {}]]]),
            layer("GlobalAveragePooling1D", "g", [[["a", 0, 0, {}]]]),
            layer("Dense", "e", [[["g", 0, 0, {}]]], units=2, use_bias=False),
        ],
        [["i", 0, 0]],
        [["e", 0, 0]],
    )  # fmt: skip
    parts = ("gamma", "beta", "moving_mean", "moving_variance")
    weights = {
        "c": [("c/kernel:0", draw(3, 3, 4)), ("c/bias:0", draw(4))],
        "inside": [(f"n/{part}:0", abs(draw(4))) for part in parts],
        "e": [("e/kernel:0", draw(4, 2))],
    }
    write_hdf5(path, graph, weights, "2.9.0")


def keras_1(path):
    options = {"nb_filter": 4, "nb_row": 2, "nb_col": 3, "dim_ordering": "tf", "subsample": [1, 1]}
    options |= {"border_mode": "valid", "activation": "linear", "bias": True, "init": "glorot_uniform"}
    config = sequential(
        layer("Convolution2D", "c_1", **options, batch_input_shape=[None, 5, 6, 2]),
        layer("Flatten", "f"),
        layer("Dense", "d", output_dim=2, init="zero"),
        form=list,
    )
    weights = {"c_1": [("c_1_W", draw(2, 3, 2, 4)), ("c_1_b", draw(4))]}
    write_hdf5(path, config, weights | {"d": [("d_W", draw(64, 2)), ("d_b", draw(2))]}, "1.2.1")


def architecture(path):
    """The graph of ``keras_2`` in JSON."""
    keras_2(path.with_suffix(".h5"))
    with h5py.File(path.with_suffix(".h5")) as file:
        config = json.loads(file.attrs["model_config"])
    path.write_text(json.dumps(config | {"keras_version": "2.9.0", "backend": "tensorflow"}))


def weights_of_keras_2(path):
    net, leaves = layer_and_params()
    named = {name: [(f"{name}/{leaf}:0", array) for leaf, array in leaves[name].items()] for name in net.children}
    write_hdf5(path, None, named, "2.9.0")


def weights_of_keras_3(path):
    groups = {"conv": "conv1d", "norm": "batch_normalization", "head": "dense"}
    orders = {"conv": ("kernel", "bias"), "head": ("kernel", "bias")}
    orders["norm"] = ("gamma", "beta", "moving_mean", "moving_variance")
    with h5py.File(path, "w") as file:
        for name, leaves in layer_and_params()[1].items():
            for index, key in enumerate(orders[name]):
                file[f"layers/{groups[name]}/vars/{index}"] = np.asarray(leaves[key])


def safetensors(path):
    jc.save_params(path, layer_and_params()[1])


def exported(path):
    net, params = layer_and_params()
    export(net.apply_fn, params, path, (None, 8, 3), platforms=["cpu"])


def exported_with_two_inputs(path):
    a, b = jc.Input((3,), name="a"), jc.Input((3,), name="b", dtype="int32")
    net = jc.Model([a, b], jc.Concatenate()([jc.Dense(3)(a), jc.Flatten()(jc.Embedding(9, 3)(b))]))
    export(net.apply_fn, _drawn(net), path, [(None, 3), (None, 3)])


def npz(path):
    write_small_run(path.parent)
    path.write_bytes((path.parent / "tiny.npz").read_bytes())


def npy(path):
    np.save(path, draw(5, 3))


def checkpoint(path):
    state, run = state_and_run()
    sums = {"loss": np.float64(1 / 3), "precision": np.array([1.0, 2.0])}
    save(path, Progress(state, 1, 5, sums, ({"epoch": 1, "loss": 0.5},), state.params, 0.1, 1, 3), run)


def toml(path):
    path.write_bytes(write_small_run(path.parent).read_bytes())


def text(content):
    return lambda path: path.write_text(content)


def tuned(path):
    header = tuning_cache._header("cpu")
    entry = {"lowering": "im2col", "ms": 1.0, "table": "xla_nhwc", "table_ms": 2.0}
    path.write_text(json.dumps({**header, "entries": {"key": entry, "other": entry}}))


KERAS_JSON = '{"image_data_format": "channels_first", "floatx": "float32", "backend": "jax", "epsilon": 1e-07}'
RESULTS = '{"epochs": 2, "seconds": 1.5, "test": {"loss": 0.5, "accuracy": 0.75}, "versions": {"jax": "0.10"}}'
METRICS = "epoch,loss,accuracy,learning_rate\n1,0.5,0.25,0.001\n2,0.25,0.75,0.001\n"


# -- how each is damaged and read


class Format(NamedTuple):
    """A format: how a good file is written, under which name, the readers, the damages, and errors that are right."""

    write: Callable
    name: str
    readers: tuple[str, ...]
    damages: tuple[Callable, ...]
    errors: tuple[str, ...] = ("FileError",)


_ZIP = (damage.spoil_zip, damage.spoil_zip, damage.spoil_zip, damage.spoil_bytes, damage.spoil_sizes)
_HDF5 = (damage.spoil_hdf5, damage.spoil_hdf5, damage.spoil_bytes, damage.spoil_sizes)
_JSON = (damage.spoil_json, damage.spoil_json, damage.spoil_numbers, damage.spoil_bytes)
_MODEL = ("model", "model", "info")
FORMATS = {
    "jaxconv": Format(jaxconv_model, "m.keras", _MODEL, _ZIP),
    "keras 3": Format(keras_3, "m.keras", _MODEL, _ZIP),
    "keras 2.13": Format(keras_213, "m.keras", _MODEL, _ZIP),
    "keras 2": Format(keras_2, "m.h5", _MODEL, _HDF5),
    "keras 1": Format(keras_1, "m.h5", _MODEL, _HDF5),
    "keras in JSON": Format(architecture, "model.json", ("layer", "layer", "info"), _JSON),
    "weights of keras 2": Format(weights_of_keras_2, "w.h5", ("weights", "info"), _HDF5),
    "weights of keras 3": Format(weights_of_keras_3, "w.weights.h5", ("weights", "info"), _HDF5),
    "safetensors": Format(safetensors, "w.safetensors", ("safetensors", "info"),
                          (damage.spoil_safetensors, damage.spoil_safetensors, damage.spoil_bytes, damage.spoil_sizes)),
    "exported": Format(exported, "m.jaxexport", ("exported", "run", "info"), _ZIP),
    "exported, two inputs": Format(exported_with_two_inputs, "m.jaxexport", ("exported", "info"), _ZIP),
    "npz": Format(npz, "x.npz", ("npz",), _ZIP, ("ConfigError",)),
    "npy": Format(npy, "x.npy", ("npy",),
                  (damage.spoil_npy, damage.spoil_npy, damage.spoil_bytes, damage.spoil_sizes), ("ConfigError",)),
    "checkpoint": Format(checkpoint, "checkpoint.npz", ("checkpoint",), _ZIP),
    "toml": Format(toml, "a.toml", ("config", "config", "info"),
                   (damage.spoil_toml, damage.spoil_toml, damage.spoil_numbers, damage.spoil_bytes), ("ConfigError",)),
    "keras.json": Format(text(KERAS_JSON), "keras.json", ("keras.json",), _JSON, ("ValueError",)),
    "results": Format(text(RESULTS), "results.json", ("results",), _JSON, ()),
    "metrics": Format(text(METRICS), "metrics.csv", ("metrics",), (damage.spoil_numbers, damage.spoil_bytes), ()),
    "tuning cache": Format(tuned, "tuned.json", ("tuned",), _JSON, ()),
}  # fmt: skip


def damaged_case(kind, content, seed):
    """Return one damaged copy of a file's content, and the reader to try on it."""
    rng = random.Random(f"{kind} {seed}")
    spoil = rng.choice(FORMATS[kind].damages)
    return spoil(content, rng), rng.choice(FORMATS[kind].readers), spoil.__name__


def stored_digests(path):
    """Return the digests of all arrays in a file, in every type they may be read in.

    Reads with h5py, numpy and json alone, which makes it an oracle for the values that jaxconv reads. libhdf5 may crash
    on the damage that jaxconv did not need to look at, so this runs in the child process, too.
    """
    path, arrays = Path(path), []
    content = path.read_bytes()
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        if "model.weights.h5" in entries:
            content = entries["model.weights.h5"]
        else:
            arrays = [np.load(io.BytesIO(one)) for one in entries.values() if one.startswith(b"\x93NUMPY")]
    if content.startswith(b"\x89HDF"):
        with h5py.File(io.BytesIO(content)) as file:
            file.visititems(lambda _, one: arrays.append(one[()]) if isinstance(one, h5py.Dataset) else None)
    elif path.suffix == ".safetensors":
        size = struct.unpack("<Q", content[:8])[0]
        places = [one["data_offsets"] for name, one in json.loads(content[8 : 8 + size]).items() if name[:2] != "__"]
        arrays = [np.frombuffer(content[8 + size + start : 8 + size + end], np.uint8) for start, end in places]
    elif path.suffix == ".npy":
        arrays = [np.load(path)]
    numbers = [one for one in arrays if isinstance(one, np.ndarray | np.generic) and one.dtype.kind in "fiu"]
    kinds = ["f2", "f4", "f8", ml_dtypes.bfloat16]
    with np.errstate(all="ignore"):
        return sorted({digest(one) for one in arrays} | {digest(one.astype(kind)) for one in numbers for kind in kinds})
