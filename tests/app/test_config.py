"""A config file: what it may say, what --set changes, and the one line that every mistake gets."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxconv.app.config import build_config, check_shapes, load_data, read_config
from jaxconv.app.schema import ConfigError, Mismatch, Place, fit_table, fit_value
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
    """Give a folder with a data set of two classes, one of numbers, and a config for the first."""
    folder = tmp_path_factory.mktemp("configs")
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(24, 12, 1)).astype("float32"), np.arange(24) % 2
    np.savez(folder / "two.npz", x_train=x, y_train=labels, x_test=x, y_test=labels)
    np.savez(folder / "numbers.npz", x_train=x, y_train=x[:, 0], x_test=x, y_test=x[:, 0])
    (folder / "two.toml").write_text(CONFIG.format(path=folder / "two.npz"))
    return folder


def message(path: Path, *settings: str) -> str:
    """Give what a config with a mistake is answered; it is one line."""
    with pytest.raises(ConfigError) as caught:
        config = read_config(path, settings)
        check_shapes(config, load_data(config))
    text = str(caught.value)
    assert "\n" not in text
    return text


# a setting with a mistake, and what the one line has to say: the key, the value, the nearest legal one
MISTAKES = [
    ("epochs=2", ["epochs = 2", "unknown key", "did you mean 'train.epochs'?", "legal: data, model, name, train"]),
    ("train.learning_rate=0.1", ["train.learning_rate = 0.1", "did you mean 'train.optimizer.learning_rate'?"]),
    ("train.epoch=2", ["train.epoch = 2", "did you mean 'epochs'?"]),
    ("train.epochs=ten", ['train.epochs = "ten"', "expected an integer"]),
    ("train.epochs=2.0", ["train.epochs = 2.0", "expected an integer"]),
    ("train.epochs=true", ["train.epochs = true", "expected an integer"]),
    ("train.epochs=0", ["train.epochs = 0", "at least 1"]),
    ("train.batch_size=-8", ["train.batch_size = -8", "at least 1"]),
    ("train.seed=-1", ["train.seed = -1", "legal: 0 to"]),
    ("train.validation_split=1.5", ["train.validation_split = 1.5", "from 0"]),
    (
        "train.loss=sparse_categorical_crossentropi",
        ["train.loss = ", "did you mean 'sparse_categorical_crossentropy'?"],
    ),
    ("train.loss.from_logits=maybe", ['train.loss.from_logits = "maybe"', "expected true or false"]),
    ("train.loss.from_logit=true", ["train.loss.from_logit = true", "'from_logits'"]),
    ("train.metrics.0=acuracy", ['train.metrics.0 = "acuracy"', "did you mean 'accuracy'?"]),
    ("train.optimizer=adamm", ['train.optimizer = "adamm"', "did you mean 'adam'?"]),
    ("train.optimizer.name=adamm", ['train.optimizer.name = "adamm"', "did you mean 'adam'?"]),
    ("train.optimizer.lr=0.1", ["train.optimizer.lr = 0.1", "learning_rate"]),
    ("train.optimizer.learning_rate=-1", ["train.optimizer.learning_rate = -1", "at least 0"]),
    ("train.optimizer.learning_rate.name=cosine", ['learning_rate.name = "cosine"', "'cosine_decay'"]),
    ("train.optimizer.b1=big", ['train.optimizer.b1 = "big"', "expected a number"]),
    ("train.optimizer.nesterov=1", ["train.optimizer.nesterov = 1", "expected true or false"]),
    ("train.optimizer=3", ["train.optimizer = 3", "expected a string or a table"]),
    ("train.early_stopping.monitor=val_loss", ['monitor = "val_loss"', "train.validation_split"]),
    ('train.early_stopping={monitor="loss", patiens=3}', ["early_stopping.patiens = 3", "'patience'"]),
    ('train.early_stopping={monitor="loss", mode="up"}', ['early_stopping.mode = "up"', "min"]),
    ('train.early_stopping={monitor="loss", patience=-1}', ["early_stopping.patience = -1", "at least 0"]),
    ("train.best_weights=acc", ['train.best_weights = "acc"', "did you mean 'accuracy'?"]),
    ("train=5", ["train = 5", "expected a table"]),
    ("data.source=nzp", ['data.source = "nzp"', "did you mean 'npz'?"]),
    ("data.file=a.npz", ['data.file = "a.npz"', "legal: path, source"]),
    ("data.path=3", ["data.path = 3", "expected a string"]),
    ("data.path=nothing.npz", ["data.path", "'nothing.npz'"]),
    ("name=a/b", ['name = "a/b"', "folder"]),
    ("model.layers=[]", ["model.layers", "at least one [[model.layers]]"]),
    ("model.layer=3", ["model.layer = 3", "did you mean 'layers'?"]),
    ("model.layers.0=3", ["model.layers.0 = 3", "expected a table"]),
    ("model.layers.0.layer=Conv1", ['model.layers.0.layer = "Conv1"', "did you mean 'Conv1D'?"]),
    ("model.layers.0.filter=3", ["model.layers.0.filter = 3", "did you mean 'filters'?"]),
    ("model.layers.0.filters=0", ["model.layers.0.filters = 0", "positive"]),
    ("model.layers.0.filters=many", ['model.layers.0.filters = "many"', "expected an integer"]),
    ("model.layers.0.kernel_size=0", ["model.layers.0.kernel_size = 0", "at least 1"]),
    ("model.layers.0.padding=smae", ['model.layers.0.padding = "smae"', "'same'"]),
    ("model.layers.0.activation=rleu", ['model.layers.0.activation = "rleu"', "did you mean 'relu'?"]),
    ("model.layers.0.use_bias=no", ['model.layers.0.use_bias = "no"', "expected true or false"]),
    ("model.layers.0.groups=3", ["model.layers.0.groups = 3", "filters"]),
    ("model.layers.0.kernel_constraint.max_valu=3", ["kernel_constraint.max_valu = 3", "did you mean 'max_value'?"]),
    ("model.layers.0.kernel_constraint={max_value=3}", ["model.layers.0.kernel_constraint", "name"]),
    ("model.layers.0.kernel_regularizer=l3", ['kernel_regularizer = "l3"', "did you mean 'l2'?"]),
    ("model.layers.1.layer=GlobalAveragePooling2D", ["model.layers.1", "given the shape (8, 12, 4)", "rank"]),
    ("model.layers.0.kernel_constraint.axis=3", ["model.layers.0 (conv1d)", "axis=3"]),
    ("train.optimizer.learning_rate=1000000000000000000000000000000", ["train.optimizer", "overflow"]),
    ("model.layers.2.units=3", ["model.layers.2.units = 3", "gives 3 outputs", "2 classes (0, 1)", "legal: 2"]),
    ("model.layers.2.units=1", ["model.layers.2.units = 1", "gives 1 output, but", "legal: 2"]),
    ("train.loss=mse", ['train.loss = "mse"', "legal for these shapes: sparse_categorical_crossentropy"]),
    ("train.loss=categorical_crossentropy", ['train.loss.name = "categorical_crossentropy"', "sparse_categorical"]),
    ("train.metrics.0=categorical_accuracy", ['train.metrics.0 = "categorical_accuracy"', "must be equal"]),
]


@pytest.mark.parametrize(("setting", "parts"), MISTAKES, ids=[setting for setting, _ in MISTAKES])
def test_a_mistake_gets_one_line_with_file_key_value_and_what_is_legal(folder, setting, parts):
    text = message(folder / "two.toml", setting)
    assert text.startswith(f"{folder / 'two.toml'}: ")
    for part in parts:
        assert part in text, text


def test_arguments_that_exclude_each_other_are_shown_together(folder):
    text = message(folder / "two.toml", "model.layers.0.strides=2", "model.layers.0.dilation_rate=2")
    assert 'model.layers.0 = {"layer": "Conv1D", "strides": 2, "dilation_rate": 2}' in text


def test_a_kernel_longer_than_the_data_is_named_with_its_layer(folder):
    text = message(folder / "two.toml", "model.layers.0.padding=valid", "model.layers.0.kernel_size=13")
    assert "model.layers.0 (conv1d), given the shape (8, 12, 1)" in text and "shortest legal input is 13" in text


def test_outputs_must_be_as_many_as_target_numbers(folder):
    path = f"data.path={folder / 'numbers.npz'}"
    text = message(folder / "two.toml", path, "train.loss=mse", "train.metrics=[]")
    assert "model.layers.2.units = 2" in text and "each target is one number; legal: 1" in text


def test_labels_stored_as_floats_are_told_apart_from_targets(folder):
    text = message(folder / "two.toml", f"data.path={folder / 'numbers.npz'}")
    assert "each target is one number (y holds floats: targets; class labels are integers or strings)" in text


def test_a_softmax_over_one_output_is_refused(folder):
    settings = ["train.loss=binary_crossentropy", "model.layers.2.units=1"]
    text = message(folder / "two.toml", *settings)
    assert 'model.layers.2.activation = "softmax"' in text and "always 1; legal: sigmoid" in text
    check = read_config(folder / "two.toml", [*settings, "model.layers.2.activation=sigmoid"])
    check_shapes(check, load_data(check))


def test_a_model_that_keeps_the_time_axis_is_told_to_flatten(folder):
    text = message(folder / "two.toml", "model.layers.1={layer='Activation', activation='relu'}")
    assert "predictions (8, 12, 2)" in text and "a Flatten or global pooling layer before the last one" in text


def test_losses_that_fit_are_listed_once(folder):
    path = f"data.path={folder / 'numbers.npz'}"
    text = message(folder / "two.toml", path, "model.layers.2.units=1", "model.layers.2.activation=linear")
    legal = text.partition("legal for these shapes: ")[2].split(", ")
    assert "mean_squared_error" in legal and "mse" not in legal and len(set(legal)) == len(legal)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[data]\nsource = 'digits'\n[model]\nlayers = [{layer = 'Flatten'}]\n", ["train is missing", "[train]"]),
        ("[model]\n[train]\n", ["data is missing"]),
        ("[data]\n[model]\n[train]\n", ["data.source is missing", "legal: adding_problem, digits"]),
        ("[data]\nsource = 'ucr'\n[model]\n[train]\n", ["data.name is missing", "expected a string"]),
        ("[data]\nsource = 'digits'\n[model]\n[train]\n", ["model.layers is missing"]),
        ("[data]\nsource = 'digits'\n[model]\nlayers = [{units = 3}]\n[train]\n", ["model.layers.0.layer is missing"]),
        (
            "[data]\nsource = 'digits'\n[model]\nlayers = [{layer = 'Dense'}]\n[train]\n",
            ["model.layers.0.units is missing", "Dense needs it"],
        ),
        (
            "[data]\nsource = 'digits'\n[model]\nlayers = [{layer = 'Flatten'}]\n[train]\n",
            ["train.loss is missing", "sparse_categorical_crossentropy"],
        ),
        ("[data\n", ["not a TOML file", "line 1"]),
        ("a = 1\na = 2\n", ["not a TOML file"]),
    ],
)
def test_what_is_missing_is_named(tmp_path, text, parts):
    path = tmp_path / "a.toml"
    path.write_text(text)
    said = message(path)
    for part in [str(path), *parts]:
        assert part in said, said


def test_a_missing_file_gets_the_nearest_one(folder):
    assert f"did you mean '{folder / 'two.toml'}'?" in message(folder / "too.toml")
    assert "there is no such config file" in message(folder / "nowhere" / "two.toml")
    (folder / "configs").mkdir()
    (folder / "configs" / "mine.toml").write_text("")
    assert f"did you mean '{folder / 'configs' / 'mine.toml'}'?" in message(folder / "config" / "mine.toml")


def test_a_folder_is_no_config(folder):
    assert "is a folder" in message(folder) and "--resume" in message(folder)


def test_settings_reach_any_key_and_are_read_as_toml():
    tree: dict[str, Any] = {"train": {"epochs": 1, "optimizer": "adam"}, "model": {"layers": [{"layer": "Dense"}]}}
    settings = [
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
    override(tree, settings)
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
        ("train.epochs", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("train..epochs=3", "expected KEY=VALUE"),
        ("train.epochs.x=3", "train.epochs is 1, not a table"),
        ("train.epochs.x.y=3", "train.epochs is 1, not a table"),
        ("layers.2=3", "layers is a list; legal: 0 to 1, not '2'"),
        ("layers.first.units=3", "layers is a list; legal: 0 to 1, not 'first'"),
    ],
)
def test_a_setting_that_leads_nowhere_is_refused(setting, part):
    with pytest.raises(ConfigError) as caught:
        override({"train": {"epochs": 1}, "layers": [{}, {}]}, [setting])
    assert f"--set {setting}" in str(caught.value) and part in str(caught.value)


def test_a_value_cannot_smuggle_in_another_key():
    tree: dict[str, Any] = {}
    override(tree, ["name=1\nseed = 2"])
    assert tree == {"name": "1\nseed = 2"}


def test_the_resolved_config_says_everything_and_reads_back_equal(folder):
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


def test_tables_in_keras_form_and_nested_layers_are_understood(folder):
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


keys = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), min_size=1, max_size=5)
plain = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | keys
values = st.recursive(plain, lambda v: st.lists(v, max_size=3) | st.dictionaries(keys, v, max_size=3), max_leaves=6)
sections = st.dictionaries(keys, st.dictionaries(keys, values | st.lists(st.dictionaries(keys, values)), max_size=3))


@given(st.dictionaries(keys, plain, max_size=3), sections)
def test_what_is_written_as_toml_reads_back(top, tables):
    tree = {**top, **tables}
    assert tomllib.loads(dumps(tree)) == tree


def test_toml_refuses_what_it_has_no_word_for():
    with pytest.raises(TypeError, match="a config cannot hold None"):
        dumps({"a": None})


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a TOML file: byte 0 is 0xff, which is not UTF-8; save it as text"):
        read_toml(tmp_path / "a.toml")


def test_a_byte_order_mark_is_no_mistake(tmp_path):
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
        ("x/y", Path, Path("x/y")),
        (None, int | None, None),
        ("anything", Any, "anything"),
    ],
)
def test_values_fit_annotations(value, annotation, result):
    fitted = fit_value(value, annotation)
    assert fitted == result and type(fitted) is type(result)


@pytest.mark.parametrize(
    ("value", "annotation", "words"),
    [
        (True, int, "expected an integer"),
        (1, bool, "expected true or false"),
        ("3", float, "expected a number"),
        (3, str | None, "expected a string"),
        (3, str | dict[str, Any], "expected a string or a table"),
        ("x", Literal["a", "b"], "legal: a, b"),
        (1, Literal["a", "b"], 'one of "a", "b"'),
        ("ab", list[str], "expected a list (of a string)"),
        (["a"], tuple[int, ...], "expected an integer"),
        (3, dict[str, int], "expected a table"),
        (3, Path, "expected a path"),
    ],
)
def test_values_that_do_not_fit_are_told_what_would(value, annotation, words):
    with pytest.raises(Mismatch) as caught:
        fit_value(value, annotation)
    assert words in str(caught.value)


def test_a_dataclass_tells_its_table_too():
    @dataclasses.dataclass
    class Options:
        size: int
        rate: float = 0.5

    assert fit_table({"size": 3}, Options, Place("f", "t")) == {"size": 3, "rate": 0.5}
    with pytest.raises(ConfigError, match=r"f: t.size is missing: expected an integer"):
        fit_table({}, Options, Place("f", "t"))
    with pytest.raises(ConfigError, match=r"f: t = 3: expected a table"):
        fit_table(3, Options, Place("f", "t"))


def test_long_values_are_cut_in_messages():
    assert str(Place("f").error("a", "x" * 200, "wrong")) == 'f: a = "' + "x" * 76 + "...: wrong"


JUNK = [-1, 0, 2.5, float("nan"), "x", "", True, [], ["a"], {}, {"name": "x"}, {"name": 3}, {"layer": "Dense"}, 10**30]


def _paths(tree: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path for key, value in entries for path in ((*above, key), *_paths(value, (*above, key)))]


def test_junk_in_any_place_is_legal_or_gets_one_line(folder):
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


def test_a_wrapper_and_a_residual_block_stand_in_tables():
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
