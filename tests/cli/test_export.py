"""``jaxconv export``: programs that predict the same as their models."""

import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.cli.command_line import main
from jaxconv.files.loading import load_model

pytest.importorskip("h5py")
pytest.importorskip("flatbuffers")


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["m.keras", "m.jaxexport", "--platforms", "cpu,gpu"], ["gpu", "cpu, cuda, tpu", "GPUs are cuda"]),
        (["m.keras", "two.keras"], ["two.keras", "--force"]),
        (["m.keras", "n.jaxexport", "--window", "8"], ["--window", "--stream"]),
        (["m.keras", "n.jaxexport", "--chunk", "8"], ["--chunk", "--stream"]),
        (["m.keras", "n.jaxexport", "--stream"], ["global_max_pooling1d", "axis 1", "window=W"]),
        (["m.keras", "n.jaxexport", "--stream", "--window", "8", "--chunk", "0"], ["chunk=0", "block of 1"]),
        (["shapeless.keras", "n.jaxexport"], ["shapeless.keras", "--input-shape 128,16"]),
        (["shapeless.keras", "n.jaxexport", "--input-shape", "a"], ["--input-shape a", "48,48,1"]),
    ],
)
def test_a_mistake_is_one_line(at_home, error_line, arguments, facts):
    error = error_line("export", *arguments)
    for fact in facts:
        assert fact in error, error


@pytest.mark.parametrize("options", [[], ["--optimize", "--platforms", "cpu"]], ids=["all platforms", "optimized"])
def test_an_exported_model_predicts_the_same(at_home, tmp_path, error_line, options):
    params, apply_fn = load_model("m.keras")
    expected = np.asarray(apply_fn(params, np.load("x.npy")))
    program, out = str(tmp_path / "m.jaxexport"), str(tmp_path / "y.npy")
    assert main(["export", "m.keras", program, *options]) == 0
    assert main(["predict", program, "x.npy", "--out", out, "--batch", "7"]) == 0
    np.testing.assert_allclose(np.load(out), expected, atol=1e-5)  # folding changes the rounding in float32


def test_an_exported_model_refuses_inputs_of_another_shape(at_home, tmp_path, error_line, capsys):
    program, out = str(tmp_path / "m.jaxexport"), str(tmp_path / "y.npy")
    assert main(["export", "m.keras", program, "--platforms", "cpu"]) == 0
    capsys.readouterr()
    np.save(tmp_path / "wide.npy", np.zeros((3, 10, 2), "float32"))
    error = error_line("predict", program, str(tmp_path / "wide.npy"), "--out", out)
    assert "(3, 10, 2)" in error and "(batch, 10, 1)" in error


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "--data", "tiny.toml"],
        ["stream", "x.npy", "--out", "y.npy"],
        ["export", "n.jaxexport"],
        ["train", "tiny.toml", "--from"],
    ],
)
def test_an_exported_model_is_not_a_model_file(at_home, tmp_path, error_line, command):
    program = str(tmp_path / "m.jaxexport")
    assert main(["export", "m.keras", program, "--platforms", "cpu"]) == 0
    first = [] if command[-1] == "--from" else [program]
    error = error_line(command[0], *first, *command[1:], *([] if first else [program]))
    for fact in (program, "jaxconv exported model", "give the model file"):
        assert fact in error, error


def test_an_exported_model_of_several_inputs_predicts(at_home, tmp_path):
    ones, program, out = (str(tmp_path / name) for name in ("ones.npy", "two.jaxexport", "y.npz"))
    np.save(ones, np.ones((5, 4, 1)))
    assert main(["export", "two.keras", program, "--platforms", "cpu"]) == 0
    assert main(["predict", program, ones, ones, "--out", out]) == 0
    with np.load(out) as y:
        np.testing.assert_array_equal(y["output_0"], np.full((5, 4, 1), 2.0))


def test_each_input_of_an_exported_model_has_its_own_type(tmp_path):
    x, ids = jc.Input((2,), name="x"), jc.Input((2,), dtype="int32", name="ids")
    mixed = jc.Model([x, ids], jc.Concatenate()([x, jc.Flatten()(jc.Embedding(300, 1)(ids))]))
    params, apply_fn = mixed.init(jax.random.key(0), [(None, 2), (None, 2)])
    model, program, out, *files = (str(tmp_path / n) for n in ("m.keras", "m.jaxexport", "y.npy", "x.npy", "ids.npy"))
    jc.save_model(model, mixed, params)
    arrays = np.array([[0.25, -1.5]], np.float32), np.array([[257, 299]])
    for file, array in zip(files, arrays, strict=True):
        np.save(file, array)
    assert main(["export", model, program, "--platforms", "cpu"]) == 0
    assert main(["predict", program, *files, "--out", out]) == 0
    np.testing.assert_array_equal(np.load(out), apply_fn(params, list(arrays)))


def test_the_input_shape_can_be_given(at_home, tmp_path):
    program = str(tmp_path / "s.jaxexport")
    assert main(["export", "shapeless.keras", program, "--input-shape", "3", "--platforms", "cpu"]) == 0
    assert jc.load_exported(program)(np.ones((2, 3), "float32")).shape == (2, 2)


def test_an_exported_stream_steps_like_the_live_one(at_home, tmp_path, error_line, capsys):
    program, options = str(tmp_path / "m.jaxexport"), ["--stream", "--window", "10", "--chunk", "5"]
    assert main(["export", "m.keras", program, *options]) == 0
    exported, x, (params, apply_fn) = jc.load_exported(program), np.load("x.npy"), load_model("m.keras")
    _, mask, state = exported.step(exported.init(16), x[:, :5])
    y, more, state = exported.step(state, x[:, 5:])
    assert not mask.any() and more[0].tolist() == [False] * 4 + [True]  # the model on the last 10 steps
    np.testing.assert_allclose(y[:, -1], apply_fn(params, x), atol=1e-6)
    capsys.readouterr()
    assert main(["info", program]) == 0
    text = capsys.readouterr().out.split()
    assert "chunk" in text and "cpu," in text and str(exported.state_bytes) in text
    for command in ("predict", "stream"):
        assert program in error_line(command, program, "x.npy", "--out", str(tmp_path / "y.npy"))
