"""The tables of the pages: every layer, option, declared difference, lowering and data source is listed."""

import dataclasses
import inspect
import re

import jaxconv
from jaxconv.app import data
from jaxconv.contract import Layer, layers
from jaxconv.kernels.lowerings import LOWERINGS
from tests.support import pages
from tests.support.keras_oracle import keras

LAYERS, DIFFERENCES = "examples/layers.md", "examples/differences_from_keras.md"
CLASSES = {name: thing for name, thing in vars(jaxconv).items() if isinstance(thing, type) and issubclass(thing, Layer)}
del CLASSES["Layer"]
OF_EVERY_LAYER = {"name", "trainable", "dtype", "input_shape", "activity_regularizer"}
UNLIKE_KERAS = re.compile(r"differs\s+(from\s+keras\s+)?deliberately|(unlike|beyond)\s+keras|beyond\s+it\b", re.I)


def names(text):
    """Return the names in backticks; `Conv1D/2D/3DTranspose` is three of them."""
    found = []
    for name in re.findall(r"`(\w[\w/]*)`", text):
        stem, first, more, ending = re.fullmatch(r"(\w*?)(?:(\d)D((?:/\dD)+))?(\w*)", name).groups()
        ranks = [first, *re.findall(r"\d", more)] if more else []
        found += [f"{stem}{rank}D{ending}" for rank in ranks] if ranks else [name]
    return found


def rows():
    """Return the rows of the table of layers: names, what Keras has, our options beyond it, its options beyond ours."""
    return [(names(row[0]), row[1], set(names(row[2])), set(names(row[3]))) for row in pages.tables(LAYERS)[0]]


def of_keras(name):
    return getattr(keras.layers, name, None) or (None if name == "Function" else getattr(keras, name, None))


def options(name):
    """Return our options that Keras's layer lacks, and Keras's that ours lacks."""
    ours = {field.name for field in dataclasses.fields(CLASSES[name]) if field.init and field.compare}
    theirs = set(inspect.signature(of_keras(name).__init__).parameters) - {"self", "args", "kwargs"}
    return ours - theirs - OF_EVERY_LAYER, theirs - ours - OF_EVERY_LAYER


def test_every_public_layer_is_in_the_table_once():
    listed = [name for row in rows() for name in row[0]]
    assert len(listed) == len(set(listed))
    assert set(listed) - {"Input"} == set(CLASSES)


def test_every_registered_layer_is_public():
    registered = {layers[name] for name in layers.names()}
    assert {cls.__name__ for cls in registered if cls.__module__.startswith("jaxconv.")} <= set(CLASSES)


def test_keras_has_the_layers_that_the_table_says_and_no_others():
    for found, answer, _, _ in rows():
        there = {"yes": True, "no": False}[re.match(r"\w+", answer)[0]]
        assert {name: of_keras(name) is not None for name in found} == dict.fromkeys(found, there)


def test_the_options_that_one_library_lacks_are_those_of_the_table():
    said, true = {}, {}
    for found, answer, ours, theirs in rows():
        for name in set(found) & set(CLASSES) - {"Model"}:  # Keras's Model takes any arguments
            said[name] = (ours, theirs)
            true[name] = options(name) if answer.startswith("yes") else (set(), set())
    assert said == true


def test_every_difference_that_a_docstring_declares_is_on_the_page():
    tables = (jaxconv, jaxconv.initializers, jaxconv.regularizers, jaxconv.constraints, jaxconv.activations)
    things = {name: thing for table in tables for name, thing in vars(table).items() if inspect.isclass(thing)}
    declare = {name for name, thing in things.items() if UNLIKE_KERAS.search(thing.__doc__ or "")}
    assert len(declare) > 15
    listed = {name for table in pages.tables(DIFFERENCES) for row in table for name in names(" ".join(row))}
    second = {name for name in declare if name != getattr(things[name], "__name__", name)}
    families = {re.sub(r"[123]D", "", name) for name in listed}  # the layers of a family share a docstring
    assert {re.sub(r"[123]D", "", name) for name in declare - second} - families == set()


def test_every_public_name_is_on_a_page():
    text = "\n".join((pages.ROOT / page).read_text() for page in pages.PAGES)
    ranks = re.sub(r"(\w*?)(\d)D/(\d)D?/?(\d?)D?(\w*)", "", text)  # the names of layers are in the table
    assert set(jaxconv.__all__) - set(CLASSES) - set(re.findall(r"\w+", ranks)) == set()


def test_every_lowering_is_in_the_table():
    [table] = [table for table in pages.tables("examples/speed.md") if names(table[0][0])]
    assert sorted(name for row in table for name in names(row[0])) == sorted(LOWERINGS)


def test_every_source_of_data_is_named():
    text = (pages.ROOT / "examples" / "training.md").read_text()
    assert set(data.sources) <= {*re.findall(r"`(\w+)`", text), *re.findall(r'source = "(\w+)"', text)}
