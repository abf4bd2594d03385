"""``jaxconv info``: the table of layers, and the facts about runs, files and configs."""

import sys

import pytest

from jaxconv.cli.command_line import main

pytest.importorskip("h5py")


def cells(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        ("runs", ["runs", "config.toml"]),
        ("tiny.npz", ["tiny.npz"]),
        ("nothing", ["nothing"]),
        ("tony.toml", ["tony.toml", "'tiny.toml'"]),
        ("text.keras", ["text.keras", "HDF5"]),
    ],
)
def test_a_mistake_is_one_line(at_home, error_line, path, facts):
    error = error_line("info", path)
    for fact in facts:
        assert fact in error, error


def test_a_missing_package_is_named_with_what_to_install(at_home, error_line, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "pip install 'jaxconv[" in error_line("info", "m.keras")


def test_a_run_is_shown_with_layers_shapes_parameters_and_results(at_home, capsys):
    assert main(["info", "runs/tiny"]) == 0
    text = capsys.readouterr().out
    rows = cells(text)
    assert rows[0] == ["tiny"]
    assert ["conv1d", "Conv1D", "(batch,", "8,", "2)", "8", "0", "48", "3"] in rows
    assert ["batch_normalization", "BatchNormalization", "(batch,", "8,", "2)", "4", "4", "0", "3"] in rows
    assert ["dense", "Dense", "(batch,", "2)", "6", "0", "4", "-"] in rows
    assert ["total", "18", "4", "52"] in rows
    assert ["epochs", "2", "of", "2"] in rows and ["classes", "no,", "yes"] in rows
    assert any(row[:3] == ["result", "test", "accuracy"] for row in rows)
    table = text.split("\n\n")[1]
    for path in ("tiny.toml", "runs/tiny/model.keras"):  # the config alone, the file alone
        assert main(["info", path]) == 0
        alone = capsys.readouterr().out
        assert table in alone and "classes no, yes" in alone
    assert "test accuracy" in alone


def test_a_file_is_shown_with_the_layers_inside_containers_and_its_origin(at_home, capsys):
    assert main(["info", "m.keras"]) == 0
    text = capsys.readouterr().out
    assert ["body", "Sequential", "(batch,", "8,", "3)", "18", "6", "72", "3"] in cells(text)
    assert "\n  conv1d" in text and ["format", ".keras,", "Keras", "3.15.1"] in cells(text)
    assert ["total", "32", "6", "124"] in cells(text)


def test_several_inputs_are_shown(at_home, capsys):
    assert main(["info", "two.keras"]) == 0
    assert "(batch, 4, 1), (batch, 4, 1)" in capsys.readouterr().out


def test_without_an_input_shape_the_layers_are_named(at_home, capsys):
    assert main(["info", "shapeless.keras"]) == 0
    assert "dense: Dense(" in capsys.readouterr().out
