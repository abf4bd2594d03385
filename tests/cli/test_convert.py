"""``jaxconv convert``: the same model in another file, and notes on what was unusual in the old one."""

import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.cli.command_line import main
from jaxconv.files import conversion
from jaxconv.files.loading import load_layer, load_model

pytest.importorskip("h5py")


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["m.keras", "new.h5"], ["new.h5", ".keras, .safetensors"]),
        (["m.keras", "two.keras"], ["two.keras", "--force"]),
        (["m.keras", "m.keras", "--force"], ["m.keras"]),
        (["m.keras", "n.keras", "--until", "bdy"], ["bdy", "body"]),
        (["text.keras", "n.keras"], ["text.keras"]),
        (["no.h5", "n.keras"], ["no.h5"]),
        (["m.keras", "no/n.keras"], ["no/n.keras"]),
    ],
)
def test_a_mistake_is_one_line(at_home, error_line, arguments, facts):
    error = error_line("convert", *arguments)
    for fact in facts:
        assert fact in error, error


def test_the_new_file_has_the_same_model(at_home, tmp_path, capsys):
    new = tmp_path / "again.keras"
    assert main(["convert", "m.keras", str(new)]) == 0
    printed = capsys.readouterr().out
    for fact in ("m.keras", "Keras 3.15.1", "38 parameters", str(new)):
        assert fact in printed
    (layer, params), (other, same) = load_layer("m.keras"), load_layer(new)
    assert layer == other
    jax.tree.map(np.testing.assert_array_equal, params, same)
    assert main(["convert", "m.keras", str(new), "--force", "--until", "body"]) == 0
    assert load_layer(new)[0].output_shape((None, 10, 1)) == (None, 8, 3)


def test_the_notes_of_the_reader_are_printed(at_home, tmp_path, capsys, monkeypatch):
    read = conversion.read_model("m.keras")._replace(notes=("conv: nb_filter is filters",))
    monkeypatch.setattr(conversion, "read_model", lambda *args, **options: read)
    assert main(["convert", "m.keras", str(tmp_path / "noted.keras")]) == 0
    assert "note: conv: nb_filter is filters\n" in capsys.readouterr().out


def test_the_params_alone_are_written_as_safetensors(at_home, tmp_path):
    pytest.importorskip("safetensors")
    assert main(["convert", "m.keras", str(tmp_path / "m.safetensors")]) == 0
    jax.tree.map(np.testing.assert_array_equal, load_model("m.keras")[0], jc.load_params(tmp_path / "m.safetensors"))
