"""Config files: their contents, --set, and one-line errors for mistakes."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxconv.app.compatibility import check_shapes, load_data
from jaxconv.app.config import build_config, read_config
from jaxconv.app.schema import ConfigError, FilePath, Location, Mismatch, convert_value, read_arguments
from jaxconv.app.toml import dumps, override, read_toml

CONFIG = """
[data]
source = "npz"
path = "{path}"

[[model.layers]]
layer = "Conv1D"
filters = 4
kernel_size = 3
padding = "same"
kernel_constraint = {{name = "max_norm", max_value = 2, axis = "filter"}}
kernel_regularizer = "l2"

[[model.layers]]
layer = "GlobalAveragePooling1D"

[[model.layers]]
layer = "Dense"
units = 2
activation = "softmax"

[train]
loss = "sparse_categorical_crossentropy"
metrics = ["accuracy"]
epochs = 2
batch_size = 8
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a data set of two classes, one of numbers, and a config for the first."""
    folder = tmp_path_factory.mktemp("configs")
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(24, 12, 1)).astype("float32"), np.arange(24) % 2
    np.savez(folder / "two.npz", x_train=x, y_train=labels, x_test=x, y_test=labels)
    np.savez(folder / "numbers.npz", x_train=x, y_train=x[:, 0], x_test=x, y_test=x[:, 0])
    (folder / "two.toml").write_text(CONFIG.format(path=folder / "two.npz"))
    return folder


def message(path: Path, *settings: str) -> str:
    """Return the message for a config with a mistake; it is one line."""
    with pytest.raises(ConfigError) as caught:
        config = read_config(path, settings)
        check_shapes(config, load_data(config))
    text = str(caught.value)
    assert "\n" not in text
    return text


# a setting with a mistake, and the facts in its message: the key, the value, the nearest valid one
MISTAKES = [
    ("epochs=2", ["epochs = 2", "'train.epochs'", "data, model, name, train"]),
    ("train.learning_rate=0.1", ["train.learning_rate = 0.1", "'train.optimizer.learning_rate'"]),
    ("train.lr=0.1", ["train.lr = 0.1", "'train.optimizer.learning_rate'"]),
    ("train.early_stopping=true", ["train.early_stopping = true", 'monitor = "val_loss"']),
    ("train.epoch=2", ["train.epoch = 2", "'epochs'"]),
    ("train.epochs=ten", ['train.epochs = "ten"', "integer"]),
    ("train.epochs=2.0", ["train.epochs = 2.0", "integer"]),
    ("train.epochs=true", ["train.epochs = true", "integer"]),
    ("train.epochs=0", ["train.epochs = 0", "1 to"]),
    ("train.batch_size=-8", ["train.batch_size = -8", "1 to"]),
    ("train.seed=-1", ["train.seed = -1", "0 to 4294967295"]),
    ("train.validation_split=1.5", ["train.validation_split = 1.5"]),
    (
        "train.loss=sparse_categorical_crossentropi",
        ["train.loss = ", "'sparse_categorical_crossentropy'"],
    ),
    ("train.loss.from_logits=maybe", ['train.loss.from_logits = "maybe"', "true or false"]),
    ("train.loss.from_logit=true", ["train.loss.from_logit = true", "'from_logits'"]),
    ("train.metrics.0=acuracy", ['train.metrics.0 = "acuracy"', "'accuracy'"]),
    ("train.optimizer=adamm", ['train.optimizer = "adamm"', "'adam'"]),
    ("train.optimizer.name=adamm", ['train.optimizer.name = "adamm"', "'adam'"]),
    ("train.optimizer.lr=0.1", ["train.optimizer.lr = 0.1", "learning_rate"]),
    ("train.optimizer.learning_rate=-1", ["train.optimizer.learning_rate = -1", "at least 0"]),
    ("train.optimizer.learning_rate.name=cosine", ['learning_rate.name = "cosine"', "'cosine_decay'"]),
    ("train.optimizer.b1=big", ['train.optimizer.b1 = "big"', "number"]),
    ("train.optimizer.nesterov=1", ["train.optimizer.nesterov = 1", "true or false"]),
    ("train.optimizer=3", ["train.optimizer = 3", "string", "table"]),
    ("train.early_stopping.monitor=val_loss", ['monitor = "val_loss"', "train.validation_split"]),
    ('train.early_stopping={monitor="loss", patiens=3}', ["early_stopping.patiens = 3", "'patience'"]),
    ('train.early_stopping={monitor="loss", mode="up"}', ['early_stopping.mode = "up"', "min"]),
    ('train.early_stopping={monitor="loss", patience=-1}', ["early_stopping.patience = -1", "at least 0"]),
    ("train.best_weights=acc", ['train.best_weights = "acc"', "'accuracy'"]),
    ("train=5", ["train = 5", "table"]),
    ("data.source=nzp", ['data.source = "nzp"', "'npz'"]),
    ("data.source=tsv", ['data.source = "tsv"', "'csv'"]),
    ("data.file=a.npz", ['data.file = "a.npz"', "path, source"]),
    ("data.path=3", ["data.path = 3", "path"]),
    ("data.path=nothing.npz", ["data.path", "'nothing.npz'", "current folder"]),
    ("name=a/b", ['name = "a/b"', "folder"]),
    ("model.layers=[]", ["model.layers", "[[model.layers]]"]),
    ("model.layer=3", ["model.layer = 3", "'layers'"]),
    ("model.layers.0=3", ["model.layers.0 = 3", "table"]),
    ("model.layers.0.layer=Conv1", ['model.layers.0.layer = "Conv1"', "'Conv1D'"]),
    ("model.layers.0.filter=3", ["model.layers.0.filter = 3", "'filters'"]),
    ("model.layers.0.filters=0", ["model.layers.0.filters = 0", "positive"]),
    ("model.layers.0.filters=many", ['model.layers.0.filters = "many"', "integer"]),
    ("model.layers.0.kernel_size=0", ["model.layers.0.kernel_size = 0", "at least 1"]),
    ("model.layers.0.padding=smae", ['model.layers.0.padding = "smae"', "'same'"]),
    ("model.layers.0.activation=rleu", ['model.layers.0.activation = "rleu"', "'relu'"]),
    ("model.layers.0.use_bias=no", ['model.layers.0.use_bias = "no"', "true or false"]),
    ("model.layers.0.groups=3", ["model.layers.0.groups = 3", "filters"]),
    ("model.layers.0.kernel_constraint.max_valu=3", ["kernel_constraint.max_valu = 3", "'max_value'"]),
    ("model.layers.0.kernel_constraint={max_value=3}", ["model.layers.0.kernel_constraint", "name"]),
    ("model.layers.0.kernel_regularizer=l3", ['kernel_regularizer = "l3"', "'l2'"]),
    ("model.layers.1.layer=GlobalAveragePooling2D", ["model.layers.1", "(None, 12, 4)", "rank"]),
    ("model.layers.0.kernel_constraint.axis=3", ["model.layers.0 (conv1d)", "axis=3"]),
    ("train.optimizer.learning_rate=1000000000000000000000000000000", ["train.optimizer.learning_rate", "64 bits"]),
    ("model.layers.2.units=3", ["model.layers.2.units = 3", "3 outputs", "2 classes (0, 1)"]),
    ("model.layers.2.units=1", ["model.layers.2.units = 1", "1 output,", "2 classes"]),
    ("train.loss=mse", ['train.loss = "mse"', "sparse_categorical_crossentropy"]),
    ("train.loss=categorical_crossentropy", ['train.loss.name = "categorical_crossentropy"', "sparse_categorical"]),
    ("model.layers.2.activation=linear", ["train.loss = ", "linear", "from_logits", "softmax"]),
    ("train.loss.from_logits=true", ["train.loss = ", "softmax", "from_logits=False"]),
    ("train.metrics.0=categorical_accuracy", ['train.metrics.0 = "categorical_accuracy"', "(8,)", "(8, 2)"]),
]


@pytest.mark.parametrize(("setting", "parts"), MISTAKES, ids=[setting for setting, _ in MISTAKES])
def test_a_mistake_is_one_line_with_file_key_value_and_valid_values(folder, setting, parts):
    text = message(folder / "two.toml", setting)
    assert text.startswith(f"{folder / 'two.toml'}: ")
    for part in parts:
        assert part in text, text


def test_arguments_that_exclude_each_other_are_named_together(folder):
    text = message(folder / "two.toml", "model.layers.0.strides=2", "model.layers.0.dilation_rate=2")
    assert 'model.layers.0 = {"layer": "Conv1D", "strides": 2, "dilation_rate": 2}' in text


def test_a_kernel_longer_than_the_data_is_named_with_its_layer(folder):
    text = message(folder / "two.toml", "model.layers.0.padding=valid", "model.layers.0.kernel_size=13")
    assert "model.layers.0 (conv1d)" in text and "(None, 12, 1)" in text and "13" in text


def test_channels_first_data_is_named_as_such(folder):
    arrays = dict(np.load(folder / "two.npz"))
    moved = {name: np.moveaxis(np.repeat(x, 2, -1), 1, -1) if x.ndim == 3 else x for name, x in arrays.items()}
    np.savez(folder / "first.npz", **moved)
    settings = ["model.layers.0.padding=valid", "model.layers.0.kernel_size=3", f"data.path={folder / 'first.npz'}"]
    text = message(folder / "two.toml", *settings)
    assert "channels_first" in text and "np.moveaxis(x, 1, -1)" in text and f"{moved['x_train'].shape}" in text


def test_outputs_must_be_as_many_as_target_numbers(folder):
    path = f"data.path={folder / 'numbers.npz'}"
    text = message(folder / "two.toml", path, "train.loss=mse", "train.metrics=[]")
    assert "model.layers.2.units = 2" in text and "expected 1" in text


def test_floats_in_the_place_of_labels_are_named_as_targets(folder):
    text = message(folder / "two.toml", f"data.path={folder / 'numbers.npz'}")
    assert "float" in text and "integers or strings" in text


def test_a_softmax_over_one_output_is_refused(folder):
    settings = ["train.loss=binary_crossentropy", "model.layers.2.units=1"]
    text = message(folder / "two.toml", *settings)
    assert 'model.layers.2.activation = "softmax"' in text and "sigmoid" in text
    check = read_config(folder / "two.toml", [*settings, "model.layers.2.activation=sigmoid"])
    check_shapes(check, load_data(check))


def test_for_a_model_that_keeps_the_time_axis_pooling_is_suggested(folder):
    text = message(folder / "two.toml", "model.layers.1={layer='Activation', activation='relu'}")
    assert "(8, 12, 2)" in text and "Flatten" in text


def test_losses_that_fit_are_listed_once(folder):
    path = f"data.path={folder / 'numbers.npz'}"
    text = message(folder / "two.toml", path, "model.layers.2.units=1", "model.layers.2.activation=linear")
    allowed = text.partition("valid for these shapes: ")[2].split(", ")
    assert "mean_squared_error" in allowed and "mse" not in allowed and len(set(allowed)) == len(allowed)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[data]\nsource = 'digits'\n[model]\nlayers = [{layer = 'Flatten'}]\n", ["train", "[train]"]),
        ("[model]\n[train]\n", ["data"]),
        ("[data]\n[model]\n[train]\n", ["data.source", "adding_problem, csv, digits"]),
        ("[data]\nsource = 'ucr'\n[model]\n[train]\n", ["data.name", "string"]),
        ("[data]\nsource = 'digits'\n[model]\n[train]\n", ["model.layers"]),
        ("[data]\nsource = 'digits'\n[model]\nlayers = [{units = 3}]\n[train]\n", ["model.layers.0.layer"]),
        (
            "[data]\nsource = 'digits'\n[model]\nlayers = [{layer = 'Dense'}]\n[train]\n",
            ["model.layers.0.units", "Dense"],
        ),
        (
            "[data]\nsource = 'digits'\n[model]\nlayers = [{layer = 'Flatten'}]\n[train]\n",
            ["train.loss", "sparse_categorical_crossentropy"],
        ),
        ("[data\n", ["TOML", "line 1"]),
        ("a = 1\na = 2\n", ["TOML"]),
    ],
)
def test_missing_tables_and_keys_are_named(tmp_path, text, parts):
    path = tmp_path / "a.toml"
    path.write_text(text)
    said = message(path)
    for part in [str(path), *parts]:
        assert part in said, said


def test_for_a_missing_file_the_nearest_one_is_named(folder):
    assert f"'{folder / 'two.toml'}'" in message(folder / "too.toml")
    assert str(folder / "nowhere" / "two.toml") in message(folder / "nowhere" / "two.toml")
    (folder / "configs").mkdir()
    (folder / "configs" / "mine.toml").write_text("")
    assert f"'{folder / 'configs' / 'mine.toml'}'" in message(folder / "config" / "mine.toml")


def test_a_folder_is_not_a_config(folder):
    assert f"--resume {folder}" in message(folder)


def test_settings_reach_any_key_and_are_read_as_toml():
    tree: dict[str, Any] = {"train": {"epochs": 1, "optimizer": "adam"}, "model": {"layers": [{"layer": "Dense"}]}}
    changes = [
        "train.epochs=50",
        "train.optimizer.learning_rate=1e-3",
        "model.layers.0.units = 3",
        "model.layers.0.name=last",
        'train.metrics=["accuracy", "mse"]',
        "train.early_stopping.patience=2",
        "train.shuffle=false",
        'train.loss={name="huber", delta=0.5}',
        "data.path=a=b.npz",
    ]
    override(tree, changes)
    assert tree == {
        "train": {
            "epochs": 50,
            "optimizer": {"name": "adam", "learning_rate": 1e-3},
            "metrics": ["accuracy", "mse"],
            "early_stopping": {"patience": 2},
            "shuffle": False,
            "loss": {"name": "huber", "delta": 0.5},
        },
        "model": {"layers": [{"layer": "Dense", "units": 3, "name": "last"}]},
        "data": {"path": "a=b.npz"},
    }


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("train.epochs", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("train..epochs=3", "KEY=VALUE"),
        ("train.epochs.x=3", "train.epochs is 1"),
        ("train.epochs.x.y=3", "train.epochs is 1"),
        ("layers.2=3", "0 to 1"),
        ("layers.first.units=3", "0 to 1"),
    ],
)
def test_a_setting_with_an_invalid_path_is_refused(setting, part):
    with pytest.raises(ConfigError) as caught:
        override({"train": {"epochs": 1}, "layers": [{}, {}]}, [setting])
    assert f"--set {setting}" in str(caught.value) and part in str(caught.value)


def test_a_value_cannot_contain_another_key():
    tree: dict[str, Any] = {}
    override(tree, ["name=1\nseed = 2"])
    assert tree == {"name": "1\nseed = 2"}


def test_the_written_config_has_all_defaults_and_reads_back_equal(folder):
    config = read_config(folder / "two.toml", ["train.early_stopping.monitor=loss", "train.optimizer=adam"])
    written = dumps(config.tree())
    assert build_config(tomllib.loads(written), config.file) == config
    assert dumps(build_config(tomllib.loads(written), config.file).tree()) == written
    tree = tomllib.loads(written)
    assert tree["name"] == "two"
    assert tree["train"]["optimizer"] == {"name": "adam", "learning_rate": 0.001}
    assert tree["train"]["loss"] == {"name": "sparse_categorical_crossentropy", "from_logits": False}
    assert tree["train"]["seed"] == 0 and tree["train"]["early_stopping"]["patience"] == 0
    first = tree["model"]["layers"][0]
    assert first["strides"] == [1] and first["kernel_initializer"] == "GlorotUniform"
    assert first["kernel_constraint"] == {"name": "MaxNorm", "max_value": 2.0, "axis": [0, 1]}


def test_tables_in_keras_form_and_nested_layers_are_accepted(folder):
    settings = [
        'model.layers.0.kernel_constraint={class_name="MaxNorm", config={max_value=2, axis=[0, 1]}}',
        'model.layers.2={layer="Sequential", layers=[{layer="Dense", units=2}, {layer="Flatten"}]}',
    ]
    config = read_config(folder / "two.toml", settings)
    assert config.model.layers[0] == read_config(folder / "two.toml").model.layers[0]
    assert config.model.layers[2].names == ("dense", "flatten")
    assert build_config(config.tree(), config.file, "two") == config


def test_a_single_metric_needs_no_list(folder):
    assert read_config(folder / "two.toml", ["train.metrics=accuracy"]).train.metrics == ("accuracy",)


# everything that TOML treats in a special way, and some that it does not
keys = st.text("ab1_-é☃\U0001f600 .=,#\"'\\[]{}\t\n\r\x01\x7f\x85", min_size=1, max_size=5)
plain = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | keys
values = st.recursive(plain, lambda v: st.lists(v, max_size=3) | st.dictionaries(keys, v, max_size=3), max_leaves=3)
sections = st.dictionaries(
    keys, st.dictionaries(keys, values | st.lists(st.dictionaries(keys, plain, max_size=2), max_size=2), max_size=3)
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(keys, plain, max_size=3), sections)
def test_written_toml_reads_back_equal(top, tables):
    tree = {**top, **tables}
    assert tomllib.loads(dumps(tree)) == tree


def test_toml_refuses_none():
    with pytest.raises(TypeError, match="None"):
        dumps({"a": None})


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"byte 0 is 0xff.*UTF-8"):
        read_toml(tmp_path / "a.toml")


def test_a_byte_order_mark_is_ignored(tmp_path):
    (tmp_path / "a.toml").write_text("a = 1", encoding="utf-8-sig")  # as Windows editors write it
    assert read_toml(tmp_path / "a.toml") == {"a": 1}


@pytest.mark.parametrize(
    ("value", "annotation", "result"),
    [
        (3, float, 3.0),
        (3, int | None, 3),
        ("a", Literal["a", "b"], "a"),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, 2], list[float], [1.0, 2.0]),
        ({"a": 1}, dict[str, Any], {"a": 1}),
        ("x/y", FilePath, FilePath("x/y")),
        (None, int | None, None),
        ("anything", Any, "anything"),
    ],
)
def test_values_are_converted_to_annotations(value, annotation, result):
    fitted = convert_value(value, annotation)
    assert fitted == result and type(fitted) is type(result)


@pytest.mark.parametrize(
    ("value", "annotation", "words"),
    [
        (True, int, "integer"),
        (1, bool, "true or false"),
        ("3", float, "number"),
        (3, str | None, "string"),
        (3, str | dict[str, Any], "string or a table"),
        ("x", Literal["a", "b"], "a, b"),
        (1, Literal["a", "b"], '"a", "b"'),
        ("ab", list[str], "list (of a string)"),
        (["a"], tuple[int, ...], "integer"),
        (3, dict[str, int], "table"),
        (3, FilePath, "path"),
    ],
)
def test_the_error_for_a_value_names_the_expected_type(value, annotation, words):
    with pytest.raises(Mismatch) as caught:
        convert_value(value, annotation)
    assert words in str(caught.value)


def test_a_dataclass_defines_a_table():
    @dataclasses.dataclass
    class Options:
        size: int
        rate: float = 0.5

    assert read_arguments({"size": 3}, Options, Location("f", "t")) == {"size": 3, "rate": 0.5}
    with pytest.raises(ConfigError, match=r"f: t\.size.*integer"):
        read_arguments({}, Options, Location("f", "t"))
    with pytest.raises(ConfigError, match=r"f: t = 3.*table"):
        read_arguments(3, Options, Location("f", "t"))


def test_long_values_are_shortened_in_messages():
    assert str(Location("f").error("a", "x" * 200, "wrong")) == 'f: a = "' + "x" * 76 + "...: wrong"


JUNK = [-1, 0, 2.5, float("nan"), "x", "", True, [], ["a"], {}, {"name": "x"}, {"name": 3}, {"layer": "Dense"}, 10**30]


def _paths(tree: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path for key, value in entries for path in ((*above, key), *_paths(value, (*above, key)))]


def test_any_value_for_any_key_is_valid_or_one_line(folder):
    base = read_config(folder / "two.toml", ["train.early_stopping.monitor=loss"])
    splits = load_data(base)
    refused = 0
    for path in _paths(base.tree()):
        for junk in JUNK:
            tree = base.tree() | {"data": dict(base.data)}
            here: Any = tree
            for key in path[:-1]:
                here = here[key]
            here[path[-1]] = junk
            try:
                check_shapes(build_config(tree, "a.toml"), splits)
            except ConfigError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 300


def test_a_wrapper_and_a_residual_block_are_tables():
    text = """
    [data]
    source = "adding_problem"
    [[model.layers]]
    layer = "WeightNormalization"
    inside = {layer = "Conv1D", filters = 4, kernel_size = 3, padding = "causal"}
    [[model.layers]]
    layer = "Residual"
    layers = [{layer = "Conv1D", filters = 4, kernel_size = 3, padding = "causal", activation = "relu"}]
    [[model.layers]]
    layer = "GlobalAveragePooling1D"
    [[model.layers]]
    layer = "Dense"
    units = 1
    [train]
    loss = "mse"
    """
    config = build_config(tomllib.loads(text), "wrapped.toml")
    assert build_config(tomllib.loads(dumps(config.tree())), "wrapped.toml").model == config.model
    assert config.model.output_shape((None, 200, 2)) == (None, 1)
