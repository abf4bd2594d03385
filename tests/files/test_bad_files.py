"""Bad files: truncated, renamed, hostile, or inconsistent. The error names the file, the layer and the reason."""

import zipfile

import h5py
import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.files import bounds, hdf5, loading
from jaxconv.files.errors import FileError
from jaxconv.files.input_shapes import misfit
from jaxconv.files.keras import config as keras_config
from jaxconv.files.loading import load_model, load_weights
from tests.support.catalogue import CASES
from tests.support.keras_files import (
    DENSE,
    DENSE_WEIGHTS,
    functional,
    layer,
    sequential,
    write_dense,
    write_hdf5,
    write_keras,
)
from tests.support.messages import facts

TABLES = {"layers/dense/vars/0": np.ones((3, 2), np.float32), "layers/dense/vars/1": np.ones(2, np.float32)}
START = "layer 'a'"


def refused(path, *parts, **options):
    with pytest.raises(FileError, match=facts(path, *parts)) as caught:
        load_model(path, **options)
    str(caught.value).encode()  # it can be printed


def one_layer(class_name, **config):
    """Write a model of one layer called "a", with the input's shape."""
    return sequential(layer(class_name, "a", batch_input_shape=[None, 8, 3], **config))


def test_the_files_here_are_good_before_they_are_spoilt(tmp_path):
    for path in (write_dense(tmp_path / "m.h5"), write_keras(tmp_path / "m.keras", DENSE, TABLES)):
        params, apply_fn = load_model(path)
        assert apply_fn(params, np.ones((1, 3))).shape == (1, 2)


def test_empty_missing_foreign_and_renamed_files(tmp_path):
    path = tmp_path / "m.h5"
    refused(path, "No such file")
    path.mkdir()
    refused(path, "folder")
    write_keras(path / "model.keras", DENSE, TABLES)
    refused(path, "folder", "m.h5/model.keras")
    path = tmp_path / "n.h5"
    path.write_bytes(b"")
    refused(path, "empty")
    path.write_bytes(b"<html>")
    refused(path, ".keras", "HDF5", "<htm")
    write_keras(path, DENSE, TABLES)  # by its content, whatever its name
    assert load_model(path)
    np.savez(tmp_path / "a.npz", np.zeros(3))
    refused(tmp_path / "a.npz", "config.json")


@pytest.mark.parametrize("write", [write_dense, lambda path: write_keras(path, DENSE, TABLES)], ids=["h5", "keras"])
def test_truncated_files(write, tmp_path):
    whole = write(tmp_path / "m").read_bytes()
    for part in (0.1, 0.5, 0.9, 0.999):
        (tmp_path / "m").write_bytes(whole[: int(part * len(whole))])
        refused(tmp_path / "m", "truncated or damaged")


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out", "a/../../b", "c:\\out", "a\\..\\..\\b"])
def test_archives_with_names_that_point_out(name, tmp_path):
    refused(write_keras(tmp_path / "m.keras", DENSE, TABLES, more={name: b"x"}), ascii(name))
    assert [one.name for one in tmp_path.iterdir()] == ["m.keras"]


def test_decompression_bombs(tmp_path):
    path = write_keras(
        tmp_path / "m.keras", DENSE, {}, method=zipfile.ZIP_DEFLATED, more={"model.weights.h5": bytes(2**27)}
    )
    refused(path, "model.weights.h5", 2**27)
    write_keras(path, DENSE, TABLES, method=zipfile.ZIP_DEFLATED, more={"config.json": " " * (bounds.TEXT + 1)})
    refused(path, "config.json", bounds.TEXT + 1, bounds.TEXT)
    config = sequential(layer("Dense", "d", units=2**13, use_bias=False, batch_input_shape=[None, 2**13]))

    def sparse(file):
        del file["model_weights/d/d/kernel:0"]
        file.create_dataset("model_weights/d/d/kernel:0", (2**13, 2**13), "f4", chunks=(2**10, 2**10), fillvalue=1)

    path = write_hdf5(tmp_path / "m.h5", config, {"d": [("d/kernel:0", np.ones(1))]}, "2.2.4", change=sparse)
    refused(path, "d/d/kernel:0", path.stat().st_size)


def test_many_entries_and_encrypted_or_repeated_lies(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_MOST_ENTRIES", 3)
    path = write_keras(tmp_path / "m.keras", DENSE, TABLES, more={"assets/a": b"x"})
    refused(path, "4 entries")
    whole = bytearray(write_keras(path, DENSE, TABLES).read_bytes())
    place = whole.rindex(b"config.json") - 46 + 24  # the size in the central directory
    whole[place] -= 5
    path.write_bytes(whole)
    refused(path, "config.json")


SPOILT = {  # the change, and the facts of the message
    "cycle": (lambda f: f.__setitem__("model_weights/dense_1/up", f["model_weights"]), ["/up'", "linked twice"]),
    "external link": (
        lambda f: f.__setitem__("model_weights/out", h5py.ExternalLink("/etc/x.h5", "/y")),
        ["'model_weights/out'", "external link"],
    ),
    "soft link": (lambda f: f.__setitem__("soft", h5py.SoftLink("/model_weights")), ["'soft'", "soft"]),
    "missing table": (
        lambda f: f.__delitem__("model_weights/dense_1/dense_1/bias:0"),
        ["'dense_1/bias:0'", "missing"],
    ),
    "missing group": (lambda f: f.__delitem__("model_weights/dense_1"), ["'dense_1'", "no group"]),
    "no config": (lambda f: f.attrs.__delitem__("model_config"), ["load_weights"]),
    "broken config": (lambda f: f.attrs.__setitem__("model_config", b'{"a'), ["model_config", "JSON"]),
    "number for config": (lambda f: f.attrs.__setitem__("model_config", 3), ["'model_config'", "int64"]),
    "config is a list": (lambda f: f.attrs.__setitem__("model_config", b"[1]"), ["config", "list"]),
    "bytes for names": (
        lambda f: f["model_weights"].attrs.__setitem__("layer_names", [b"\xff\xfe"]),
        ["not UTF-8", "udcff"],
    ),
    "deep": (lambda f: f.create_group("/".join("g" * 70)), [64]),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_spoilt_hdf5(kind, tmp_path):
    change, parts = SPOILT[kind]
    refused(write_dense(tmp_path / "m.h5", change), *parts)


@pytest.mark.parametrize(("at", "value"), [(24, 0), (24, 2**60), (8, 2**40)], ids=["still", "far", "beyond"])
def test_heaps_of_text_that_would_keep_libhdf5_in_a_loop(at, value, tmp_path):
    path = write_dense(tmp_path / "m.h5", lambda file: file.attrs.__setitem__("more", "a text of any length"))
    whole = bytearray(path.read_bytes())
    place = whole.index(b"GCOL")
    whole[place + 16 : place + 18] = bytes(2)  # the first object says that it is free space
    whole[place + at : place + at + 8] = value.to_bytes(8, "little")
    path.write_bytes(whole)
    refused(path, f"heap at byte {place}")


def test_groups_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "OBJECTS", 5)
    refused(
        write_dense(tmp_path / "m.h5", lambda file: [file.create_group(f"g{i}") for i in range(5)]),
        5,
    )


def test_names_that_are_not_utf_8(tmp_path):
    refused(write_dense(tmp_path / "m.h5", lambda file: file.create_group(b"\xff\xfe")), "not UTF-8")


def replace(name, **options):
    """Put another table in the place of one."""

    def change(file):
        place = f"model_weights/dense_1/dense_1/{name}:0"
        del file[place]
        if "external" in options:
            file.create_dataset(place, (2,), "f4", external=[("/etc/hostname", 0, 8)])
        elif "virtual" in options:
            layout = h5py.VirtualLayout((2,), "f4")
            layout[:] = h5py.VirtualSource("other.h5", "x", (2,))
            file.create_virtual_dataset(place, layout)
        else:
            file.create_dataset(place, **options)

    return change


TABLES_SPOILT = {
    "shape": ({"data": np.ones(3)}, ["dense_1/bias", "(3,)", "(2,)"]),
    "nan": ({"data": [1, np.nan]}, ["dense_1/bias", "NaN"]),
    "infinity": ({"data": [1, -np.inf]}, ["dense_1/bias", "infinity"]),
    "text": ({"data": [b"a", b"b"]}, ["'model_weights/dense_1/dense_1/bias:0'", "object"]),
    "elsewhere": ({"external": True}, ["another file"]),
    "virtual": ({"virtual": True}, ["another file"]),
    "filter": ({"data": np.ones(2, "f4"), "chunks": (2,), "scaleoffset": 1}, ["filter [6]"]),
}


@pytest.mark.parametrize("kind", TABLES_SPOILT)
def test_spoilt_weights(kind, tmp_path):
    options, parts = TABLES_SPOILT[kind]
    refused(write_dense(tmp_path / "m.h5", replace("bias", **options)), *parts)


def test_weights_and_config_that_do_not_fit(tmp_path):
    more = {**DENSE_WEIGHTS, "other": [("other/kernel:0", np.ones(2))]}
    refused(write_hdf5(tmp_path / "a.h5", DENSE, more, "2.2.4"), "'other'")
    refused(write_hdf5(tmp_path / "b.h5", DENSE, {}, "2.2.4"), "weight dense_1/", "missing")
    path = write_keras(tmp_path / "c.keras", DENSE, {**TABLES, "layers/dense_1/vars/0": np.ones(2)})
    refused(path, "'layers/dense_1/vars/0'")
    refused(write_keras(path, DENSE, {"layers/dense/vars/0": np.ones((3, 2))}), "dense_1/bias", "(2,)", "missing")


def test_load_weights_says_what_is_wrong(tmp_path):
    net = jc.Sequential([jc.Dense(2, name="dense_1")])
    params, _ = net.init(jax.random.key(0), (None, 3))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["other"] = np.ones(3)
    with pytest.raises(FileError, match=facts("layer_names")):
        load_weights(tmp_path / "x.h5", net, params)
    two = jc.Sequential([jc.Dense(3), jc.Dense(2)])
    with pytest.raises(FileError, match=facts("1 layers ('dense_1')", "2 with weights ('dense', 'dense_1')")):
        load_weights(write_dense(tmp_path / "m.h5"), two, two.init(jax.random.key(0), (None, 3))[0])
    path = write_keras(tmp_path / "m.keras", DENSE, TABLES)
    with pytest.raises(FileError, match=facts("names", "by_name")):
        load_weights(path, net, params, by_name=True)


MARSHALLED = {"class_name": "__lambda__", "config": {"value": "4wEA"}}
CONFIGS = {  # a config, and the facts of the message
    "lambda": (one_layer("Lambda", function=["x"]), [START, "Lambda", "never run", "custom_layers"]),
    "code in an option": (one_layer("Activation", activation=MARSHALLED), [START, "marshalled", "never run"]),
    "merge by code": (one_layer("Merge", mode="x", mode_type="lambda"), [START, "mode", "never run"]),
    "merge by what": (one_layer("Merge", mode="cos"), [START, "'cos'", "sum, mul"]),
    "merge of models": (one_layer("Merge", mode="sum", layers=[1]), [START, "Sequential"]),
    "unknown layer": (one_layer("EinsumDense", units=3), [START, "'EinsumDense'", 'custom_layers={"EinsumDense"']),
    "unknown option": (one_layer("Dense", units=2, sparkle=3), [START, "Dense", "'sparkle'", "3"]),
    "option that says something": (
        one_layer("Conv1DTranspose", filters=1, kernel_size=2, stateful=True),
        [START, "'stateful'", "True"],
    ),
    "mode": (one_layer("BatchNormalization", mode=2, dim_ordering="tf", border_mode=None), [START, "mode=2"]),
    "invalid option": (one_layer("Conv1D", filters=-2, kernel_size=[2]), [START, "filters=-2"]),
    "missing option": (one_layer("Conv1D", filters=2), [START, "kernel_size"]),
    "activation": (one_layer("Activation", activation="sparkle"), [START, "activation", "'sparkle'"]),
    "activation layer": (
        one_layer("Activation", activation=layer("PReLU", "r")),
        [START, "the layer PReLU"],
    ),
    "initializer": (one_layer("Dense", units=1, kernel_initializer={"a": 1}), [START, "initializer", "class_name"]),
    "initializer config": (
        one_layer("Dense", units=1, kernel_initializer={"class_name": "Zeros", "config": [1]}),
        [START, "initializer", "Zeros", "config"],
    ),
    "policy": (
        one_layer(
            "Dense", units=1, dtype={"class_name": "QuantizedDTypePolicy", "config": {"name": "int8_from_float32"}}
        ),
        [START, "QuantizedDTypePolicy"],
    ),
    "module": (
        sequential({**layer("Dense", "a", units=1), "module": "my.layers", "registered_name": "my>Dense"}),
        [START, "my>Dense of my"],
    ),
    "shape": (
        sequential(layer("Dense", "a", units=1, batch_input_shape=[None, "x"])),
        ["'a'", "batch_input_shape", "'x'"],
    ),
    "not trained for it": (one_layer("Normalization"), [START, "mean and variance"]),
    "does not fit": (
        sequential(layer("Conv2D", "a", filters=1, kernel_size=3, batch_input_shape=[None, 8, 3])),
        ["Conv2D", "(None, 8, 3)"],
    ),
    "no class": (sequential({"config": {"name": "a"}}), ["layer 0 of 'net'", "class_name"]),
    "no config": (sequential({"class_name": "Dense"}), ["layer 0 of 'net'", "Dense", "config"]),
    "no name": (sequential({"class_name": "Dense", "config": {}}), ["layer 0 of 'net'", "Dense", "name None"]),
    "no table": (sequential(3), ["layer 0 of 'net'", "int"]),
    "twice": (sequential(layer("Flatten", "a"), layer("Flatten", "a")), ["two", "'a'"]),
    "own class": ({"class_name": "MyModel", "config": {"name": "m"}}, ["'MyModel'", "code is not in the file"]),
    "layers are text": ({"class_name": "Sequential", "config": {"layers": "x"}}, ["layers", "str"]),
    "no ends": ({"class_name": "Model", "config": {"name": "m", "layers": []}}, ["'m'", "input_layers"]),
    "ring": (
        functional(
            [
                layer("InputLayer", "i", [], batch_input_shape=[None, 3]),
                layer("Add", "a", [[["i", 0, 0], ["b", 0, 0]]]),
                layer("Flatten", "b", [[["a", 0, 0]]]),
            ],
            [["i", 0, 0]],
            [["b", 0, 0]],
        ),
        ["['a', 'b']", "cycle"],
    ),
    "sparse input": (
        functional(
            [layer("InputLayer", "i", [], batch_input_shape=[None, 3], sparse=True)], [["i", 0, 0]], [["i", 0, 0]]
        ),
        ["input 'i'", "sparse"],
    ),
    "shapeless input": (
        functional([layer("InputLayer", "i", [])], [["i", 0, 0]], [["i", 0, 0]]),
        ["input 'i'", "batch_shape"],
    ),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_configs_that_cannot_be_used(kind, tmp_path):
    config, parts = CONFIGS[kind]
    version = "1.2.0" if kind == "mode" else "2.9.0"
    refused(write_hdf5(tmp_path / "m.h5", config, {}, version), *parts)


MISFITS = {  # a layer without the input's shape, its weights in the file, and the facts of the message
    "window": (layer("Conv1D", "a", filters=4, kernel_size=[3]), {"kernel": (2, 5, 4), "bias": (4,)},
               ["a/kernel", "(2, 5, 4)", "(3, 5, 4)"]),
    "filters": (layer("Conv2D", "a", filters=4, kernel_size=[1, 1]), {"kernel": (1, 1, 5, 4), "bias": (3,)},
                ["a/bias", "(3,)", "(4,)"]),
    "rank": (layer("Dense", "a", units=4, use_bias=False), {"kernel": (5, 4, 1)}, ["a/kernel", "(5, 4, 1)", "(?, 4)"]),
    "channels": (layer("DepthwiseConv2D", "a", kernel_size=[2, 2], depth_multiplier=2),
                 {"depthwise_kernel": (2, 2, 3, 2), "bias": (7,)}, ["a/bias", "(7,)", "(6,)"]),
    "statistics": (layer("BatchNormalization", "a", scale=False, center=False),
                   {"moving_mean": (3,), "moving_variance": (4,)}, ["a/moving_variance", "(4,)", "(3,)"]),
    "inside": (layer("TimeDistributed", "a", layer=layer("Dense", "d", units=4, use_bias=False)),
               {"kernel": (5, 3)}, ["a/layer/kernel", "(5, 3)", "(5, 4)"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISFITS)
def test_weights_that_no_input_gives_are_refused_where_the_input_is_not_known(kind, tmp_path):
    entry, shapes, parts = MISFITS[kind]
    weights = {"a": [(f"a/{name}:0", np.ones(shape, np.float32)) for name, shape in shapes.items()]}
    refused(write_hdf5(tmp_path / "m.h5", sequential(entry), weights, "2.9.0"), *parts)


def test_weights_that_fit_some_input_are_read_where_the_input_is_not_known(tmp_path):
    config = sequential(
        layer("Conv1D", "a", filters=4, kernel_size=[3]), layer("Flatten", "f"), layer("Dense", "b", units=2)
    )
    weights = {name: [(f"{name}/kernel:0", np.ones(shape)), (f"{name}/bias:0", np.ones(shape[-1]))]
               for name, shape in (("a", (3, 5, 4)), ("b", (24, 2)))}  # fmt: skip
    params, apply_fn = load_model(write_hdf5(tmp_path / "m.h5", config, weights, "2.9.0"))
    assert apply_fn(params, np.ones((1, 8, 5))).shape == (1, 2)


@pytest.mark.parametrize("name", CASES)
def test_no_layer_refuses_weights_of_its_own(name):
    def refuses(layer, params):
        own = {leaf: value.shape for leaf, value in params.items() if leaf not in layer.children}
        inside = [refuses(child, params.get(key, {})) for key, child in layer.children.items()]
        return misfit(layer, own) is not None or any(inside)

    case = CASES[name]
    assert not refuses(case.layer, jax.eval_shape(lambda: case.layer.init(jax.random.key(0), case.shape)[0]))


def test_models_inside_models_without_end(tmp_path, monkeypatch):
    config = layer("Flatten", "a")
    for _ in range(keras_config.DEPTH + 1):
        config = sequential(config)
    refused(write_hdf5(tmp_path / "m.h5", config, {}), keras_config.DEPTH)
    monkeypatch.setattr(keras_config, "LAYERS", 3)
    config = sequential(*(layer("Flatten", f"f{i}") for i in range(3)))
    refused(write_hdf5(tmp_path / "m.h5", config, {}), "3 layers")
    monkeypatch.undo()
    config = functional([layer("InputLayer", "i", [], batch_input_shape=[None, 3])], [["i", 0, 0]], [["i", 0, 0]], "m")
    for depth in range(16):  # each calls the one inside twice
        inner = {**config, "name": f"m{depth}", "inbound_nodes": [[["i", 0, 0, {}]], [[f"m{depth}", 1, 0, {}]]]}
        inner["config"] = {**inner["config"], "name": f"m{depth}"}
        config = functional(
            [layer("InputLayer", "i", [], batch_input_shape=[None, 3]), inner],
            [["i", 0, 0]],
            [[f"m{depth}", 2, 0]],
            "m",
        )
    refused(write_hdf5(tmp_path / "m.h5", config, {}, "2.9.0"), keras_config.CALLS, "calls")
    many = layer("Add", "a", [[["i", 0, 0, {}]] * 3000 for _ in range(20)])
    source = layer("InputLayer", "i", [], batch_input_shape=[None, 3])
    config = functional([source, many], [["i", 0, 0]], [["a", 19, 0]])
    refused(write_hdf5(tmp_path / "m.h5", config, {}, "2.9.0"), keras_config.CALLS, "tensors")
    config = sequential(layer("Conv1D", "c", filters=1, kernel_size=[1] * 9999, batch_input_shape=[None, 3, 1]))
    refused(write_hdf5(tmp_path / "m.h5", config, {}, "2.9.0"), "layer 'c'", "Conv1D", "kernel_size=")
    text = "[" * 100_000 + "]" * 100_000
    refused(write_keras(tmp_path / "m.keras", DENSE, TABLES, more={"config.json": text}), "config.json")
