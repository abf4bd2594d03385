"""The tables of the README: every layer with its counterpart in Keras, every option and difference that is ours."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

import jaxconv
from jaxconv.contract.layer import Layer, layers
from tests.support.keras_oracle import keras

README = (Path(__file__).parent.parent / "README.md").read_text()
_, LAYERS, DIFFERENCES, *_ = re.split(r"\| layers \| in Keras 3 \||\| \| Keras 3\.15 \| jaxconv \|", README)
LAYERS, DIFFERENCES = LAYERS.split("\n\n")[0], DIFFERENCES.split("\n\n")[0]

CLASSES = {name: thing for name, thing in vars(jaxconv).items() if isinstance(thing, type) and issubclass(thing, Layer)}
OF_EVERY_LAYER = {"name", "trainable", "dtype", "input_shape", "activity_regularizer"}
UNDER_KWARGS = {"rms_scaling"}  # Keras's too, read from **kwargs


def names(text):
    """Give what stands in backticks; `Conv1D/2D/3DTranspose` is three names, `axis=0` is one."""
    found = set()
    for name in re.findall(r"`(\w[\w/]*)(?:=[^`]*)?`", text):
        stem, ranks, ending = re.fullmatch(r"(\w*?)(1D/2D/3D)?(\w*)", name).groups()
        found |= {f"{stem}{rank}D{ending}" for rank in (1, 2, 3)} if ranks else {name}
    return found


def rows(table):
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines() if "`" in line]


def of_keras(name):
    return getattr(keras.layers, name, None) or getattr(keras, name, None)


def test_every_exported_layer_is_listed_once():
    listed = [name for row in rows(LAYERS) for name in sorted(names(re.sub(r"\(and .*?\)", "", row[0])))]
    assert len(listed) == len(set(listed))
    own = {cls.__name__ for cls in CLASSES.values()} - {"Layer"}
    assert set(listed) - {"Input"} == own  # the second names of Keras follow from these


def test_every_layer_in_the_table_of_configs_is_exported():
    assert {layers[name].__name__ for name in layers.names() if layers[name].__module__.startswith("jaxconv.")} <= set(
        CLASSES
    )


@pytest.mark.parametrize("row", rows(LAYERS), ids=lambda row: sorted(names(row[0]))[0])
def test_the_counterpart_in_keras_is_what_the_table_says(row):
    here = names(row[0])
    absent = {name for name in here if of_keras(name) is None}
    if row[1].startswith(("none", "gone")):
        assert absent == here
    else:
        assert row[1].startswith("the same")
        assert absent == ({name for name in here if "3D" in name} if "none in three" in row[1] else set())


def test_every_option_that_keras_lacks_is_named():
    missing = set()
    for name in {cls.__name__ for cls in CLASSES.values()} - {"Layer", "Model"}:  # Keras's Model takes any arguments
        if of_keras(name) is not None:
            fields = {field.name for field in dataclasses.fields(CLASSES[name]) if field.init}
            beyond = fields - OF_EVERY_LAYER - UNDER_KWARGS - set(inspect.signature(of_keras(name).__init__).parameters)
            about = names(" ".join(row[1] for row in rows(LAYERS) if name in names(row[0]))) | names(DIFFERENCES)
            missing |= {(name, option) for option in beyond - about}
    assert missing == set()


def test_every_deliberate_difference_of_a_docstring_is_listed():
    tables = (jaxconv.initializers, jaxconv.regularizers, jaxconv.constraints)
    things = CLASSES | {
        name: thing for table in tables for name, thing in vars(table).items() if inspect.isclass(thing)
    }
    says = re.compile(r"differs\s+deliberately|unlike\s+keras|beyond\s+keras", re.IGNORECASE)
    differ = {thing.__name__ for thing in things.values() if says.search(thing.__doc__ or "")}
    assert len(differ) > 10
    assert differ - names(LAYERS) - names(DIFFERENCES) - set(re.findall(r"\w+", DIFFERENCES)) == set()
