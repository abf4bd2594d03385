"""The command line: what a newcomer types, rightly and wrongly, and what comes back."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxconv.cli.command_line import main

CONFIG = """
name = "tiny"
[data]
source = "npz"
path = "{path}"
[[model.layers]]
layer = "Conv1D"
filters = 2
kernel_size = 3
activation = "relu"
[[model.layers]]
layer = "BatchNormalization"
[[model.layers]]
layer = "Dropout"
rate = 0.2
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
checkpoint_every = 7
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Give a folder with data, a config and a finished run in ``runs/tiny``."""
    home = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 10, 1)).astype("float32"), np.where(np.arange(16) % 2, "yes", "no")
    np.savez(home / "tiny.npz", x_train=x, y_train=y, x_test=x[:8], y_test=y[:8])
    np.save(home / "x.npy", x)
    (home / "junk.npz").write_bytes(b"junk")
    (home / "tiny.txt").write_text("1,2,3")
    (home / "tiny.toml").write_text(CONFIG.format(path=home / "tiny.npz"))
    before = os.getcwd()
    os.chdir(home)
    assert main(["train", "tiny.toml"]) == 0
    os.chdir(before)
    return home


@pytest.fixture
def at_home(home, monkeypatch):
    """Make that folder the current one."""
    monkeypatch.chdir(home)
    return home


def refused(capsys, *arguments: str, code: int = 2) -> str:
    """Give the one line that a command ends with."""
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error and error.count("\n") == 1
    return error.removeprefix("jaxconv: error: ")


def test_alone_it_prints_help_with_examples(capsys):
    assert main([]) == 0
    alone = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == alone
    assert "jaxconv train configs/gunpoint_fcn.toml" in alone
    for command in ("train", "evaluate", "predict", "info", "convert", "export"):
        assert main([command, "--help"]) == 0
        assert f"  jaxconv {command} " in capsys.readouterr().out


def test_version(capsys):
    import jaxconv

    assert main(["--version"]) == 0
    said = capsys.readouterr().out
    assert said.strip() == f"jaxconv {jaxconv.__version__}" or "not installed" in said


def test_the_command_line_itself_imports_no_array_library():
    # the module alone, without the package around it: what jaxconv/__init__ imports is not its affair
    import ast

    import jaxconv.cli.command_line

    tree = ast.parse(Path(jaxconv.cli.command_line.__file__).read_text())
    names = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    ours = {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}
    assert ours == {"jaxconv.registry", "jaxconv.cli"}
    for path in Path(jaxconv.cli.__file__).parent.glob("[!_c]*.py"):
        outside = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in outside:
            assert ast.unparse(node).split()[1].split(".")[0] in sys.stdlib_module_names, path


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["trian"], ["no command 'trian'", "did you mean 'train'?"]),
        (["--verbose"], ["unexpected '--verbose'"]),
        (["train"], ["needs a config", "--resume RUN"]),
        (["train", "tiny.toml", "--epochs", "5"], ["no option '--epochs'", "--set train.epochs=VALUE"]),
        (["train", "tiny.toml", "--batch-size=5"], ["no option '--batch-size=5'", "--set train.batch_size=5"]),
        (["train", "tiny.toml", "--filters", "5"], ["no option '--filters'", "--set KEY=VALUE"]),
        (["train", "tiny.toml", "train.epochs=5"], ["unexpected 'train.epochs=5'", "--set train.epochs=5"]),
        (["train", "tiny.toml", "--sett", "a=1"], ["no option '--sett'", "did you mean '--set'?"]),
        (["train", "tiny.toml", "more"], ["unexpected 'more'"]),
        (["train", "tony.toml"], ["tony.toml", "no such config file", "did you mean 'tiny.toml'?"]),
        (["train", "tiny.npz"], ["tiny.npz", "not a TOML file"]),
        (["train", "runs/tiny"], ["runs/tiny is a folder", "--resume runs/tiny"]),
        (["train", "tiny.toml", "--resume", "runs/tiny"], ["--resume takes the config"]),
        (["train", "tiny.toml", "--set", "train.epochs"], ["--set train.epochs", "expected KEY=VALUE"]),
        (["train", "tiny.toml", "--set", "train.epochs=few"], ['train.epochs = "few"', "expected an integer"]),
        (["train", "tiny.toml", "--set", "data.path=no.npz"], ["tiny.toml: data.path", "'no.npz'", "tiny.npz"]),
        (["train", "tiny.toml", "--set", "model.layers.4.units=3"], ["gives 3 outputs", "2 classes (no, yes)"]),
        (["train", "tiny.toml", "--out", "runs/tiny"], ["exists", "--resume runs/tiny"]),
        (["train", "--resume", "runs/tony"], ["runs/tony is no run folder"]),
        (["train", "--resume", "runs/tiny", "--set", "train.epochs=1"], ["runs/tiny has 2 epochs", "at least 2"]),
        (["evaluate"], ["MODEL", "jaxconv evaluate --help"]),
        (["evaluate", "runs/tony"], ["runs/tony: there is no such run folder or model file"]),
        (["evaluate", "runs"], ["runs holds no model.keras"]),
        (["evaluate", "tiny.npz"], ["config.toml beside it"]),
        (["evaluate", "tiny.toml"], ["tiny.toml is a config;", "jaxconv train tiny.toml"]),
        (["evaluate", "runs/tiny", "--data", "runs"], ["--data runs: a folder; give an .npz file"]),
        (["evaluate", "runs/tiny", "--data", "tiny.txt"], ["--data tiny.txt cannot be read", "numpy.savez"]),
        (["evaluate", "runs/tiny", "--data", "no.npz"], ["--data no.npz: there is no such file"]),
        (["evaluate", "runs/tiny", "--data", "x.npy"], ["--data x.npy is a single array"]),
        (["evaluate", "runs/tiny", "--data", "junk.npz"], ["--data junk.npz cannot be read"]),
        (["evaluate", "runs/tiny", "--data", "runs/tiny/model.keras"], ["holds no 'x'", "x_test and y_test"]),
        (["predict", "runs/tiny", "x.npy"], ["--out", "required"]),
        (["predict", "runs/tiny", "x.npy", "--out", "x.npy"], ["--out x.npy is the input"]),
        (["predict", "runs/tiny", "x.npy", "--out", "y.csv"], ["ends in .npy"]),
        (["predict", "runs/tiny", "x.npy", "--out", "no/y.npy"], ["no/y.npy cannot be written"]),
        (["predict", "runs/tiny", "x.npy", "--out", "y.npy", "--batch", "0"], ["--batch 0", "at least 1"]),
        (["predict", "runs/tiny", "x.npy", "--out", "y.npy", "--batch", "few"], ["--batch", "'few'"]),
        (["predict", "runs/tiny", "no.npy", "--out", "y.npy"], ["no.npy: there is no such file"]),
        (["predict", "runs/tiny", "tiny.toml", "--out", "y.npy"], ["tiny.toml is no .npy file"]),
        (["predict", "tiny.npz", "x.npy", "--out", "y.npy"], ["tiny.npz: the archive holds no Keras model"]),
        (["info", "runs"], ["runs is no run folder"]),
        (["info", "tiny.npz"], ["tiny.npz: the archive holds no Keras model"]),
        (["info", "nothing"], ["nothing: there is no such run folder, model file or config"]),
        (["info", "tony.toml"], ["no such config file", "did you mean 'tiny.toml'?"]),
    ],
    ids=lambda value: " ".join(value) if "jaxconv" not in value else None,
)
def test_a_mistake_gets_one_line_and_exit_code_2(at_home, capsys, arguments, parts):
    said = refused(capsys, *arguments)
    for part in parts:
        assert part in said, said


def test_predictions_of_the_wrong_shape_are_refused_with_the_right_one(at_home, capsys):
    np.save("flat.npy", np.zeros((3, 10), "float32"))
    trained = "runs/tiny/model.keras was trained on (batch, 10, 1)"
    assert trained in refused(capsys, "predict", "runs/tiny", "flat.npy", "--out", "y.npy")
    np.save("wide.npy", np.zeros((3, 10, 2), "float32"))
    said = refused(capsys, "predict", "runs/tiny", "wide.npy", "--out", "y.npy")
    assert trained in said and "the input has shape (3, 10, 2)" in said
    np.save("complex.npy", np.zeros((3, 10, 1), "complex64"))
    assert "real numbers" in refused(capsys, "predict", "runs/tiny", "complex.npy", "--out", "y.npy")
    assert not Path("y.npy").exists() and not list(Path().glob(".y.npy*"))


def test_a_fault_of_ours_is_one_line_and_shows_its_place_when_asked(at_home, capsys, monkeypatch):
    def fault(*args):
        raise RuntimeError("a bug,\nin two lines")

    monkeypatch.setattr("jaxconv.app.overview.info", fault)
    said = refused(capsys, "info", "runs/tiny", code=70)
    assert said.startswith("RuntimeError: a bug, in two lines") and "--traceback" in said
    assert main(["info", "runs/tiny", "--traceback"]) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (FloatingPointError("the loss became nan"), 1, "the loss became nan"),
        (MemoryError(), 1, "MemoryError"),
        (PermissionError(13, "Permission denied", "a.toml"), 2, "a.toml: Permission denied"),
        (ImportError("needs aeon"), 2, "needs aeon"),
        (TypeError("wrong kind"), 2, "wrong kind"),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(at_home, capsys, monkeypatch, error, code, says):
    def fail(*args):
        raise error

    monkeypatch.setattr("jaxconv.app.overview.info", fail)
    assert main(["info", "runs/tiny"]) == code
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_info_lays_out_layers_shapes_parameters_and_results(at_home, capsys):
    assert main(["info", "runs/tiny"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [line.split() for line in lines]
    assert lines[0] == "tiny"
    assert ["conv1d", "Conv1D", "(batch,", "8,", "2)", "8", "0", "48", "3"] in cells
    assert ["batch_normalization", "BatchNormalization", "(batch,", "8,", "2)", "4", "4", "0", "3"] in cells
    assert ["dense", "Dense", "(batch,", "2)", "6", "0", "4", "-"] in cells
    assert ["total", "18", "4", "52"] in cells
    assert ["epochs", "2", "of", "2"] in cells
    assert ["classes", "no,", "yes"] in cells
    assert any(line.startswith("result  test accuracy") for line in lines)

    assert main(["info", "tiny.toml"]) == 0
    of_config = capsys.readouterr().out
    assert main(["info", "runs/tiny/model.keras"]) == 0
    of_file = capsys.readouterr().out
    table = "\n".join(lines[2:11])
    assert table in of_config and table in of_file and "test accuracy" in of_file
    assert "classes no, yes" in of_config and "classes no, yes" in of_file


def test_info_without_an_input_shape_names_the_layers(tmp_path, capsys):
    import jax

    import jaxconv as jc

    net = jc.Sequential([jc.Conv1D(2, 3, name="first"), jc.GlobalAveragePooling1D()])
    jc.save_model(tmp_path / "m.keras", net, net.init(jax.random.key(0), (None, 9, 1))[0])
    assert main(["info", str(tmp_path / "m.keras")]) == 0
    assert "first" in capsys.readouterr().out


def test_evaluate_gives_the_figures_of_the_run(at_home, capsys):
    import json

    test = json.loads(Path("runs/tiny/results.json").read_text())["test"]
    expected = f"test accuracy {test['accuracy']:.4f}  (loss {test['loss']:.4f}), 8 samples\n"
    for arguments in (["runs/tiny"], ["runs/tiny/model.keras"], ["runs/tiny", "--data", "tiny.npz"]):
        assert main(["evaluate", *arguments]) == 0
        assert capsys.readouterr().out == expected
    Path("model.keras").write_bytes(Path("runs/tiny/model.keras").read_bytes())
    assert main(["evaluate", "model.keras", "--data", "tiny.toml"]) == 0
    assert capsys.readouterr().out == expected


def test_evaluate_takes_own_data_with_the_labels_of_the_training_data(at_home, capsys):
    with np.load("tiny.npz") as held:
        np.savez("own.npz", x=held["x_test"], y=held["y_test"])
        np.savez("strange.npz", x=held["x_test"], y=np.array(["maybe"] * 8))
        np.savez("short.npz", x=held["x_test"], y=held["y_test"][:3])
        np.savez("float.npz", x=held["x_test"], y=np.ones(8))  # 1.0 is no label, and must not pass as the second class
    assert main(["evaluate", "runs/tiny"]) == 0
    expected = capsys.readouterr().out
    assert main(["evaluate", "runs/tiny", "--data", "own.npz"]) == 0
    assert capsys.readouterr().out == expected
    said = refused(capsys, "evaluate", "runs/tiny", "--data", "strange.npz")
    assert "label 'maybe'; legal: no, yes" in said
    assert "x has 8 samples and y 3" in refused(capsys, "evaluate", "runs/tiny", "--data", "short.npz")
    said = refused(capsys, "evaluate", "runs/tiny", "--data", "float.npz")
    assert "y has dtype float64" in said and "class labels, which are integers or strings: no, yes" in said


def test_predict_writes_what_the_model_gives_whatever_the_batch(at_home, capsys):
    from jaxconv.files.loading import load_model

    params, apply_fn = load_model("runs/tiny/model.keras")
    expected = np.asarray(apply_fn(params, np.load("x.npy")))
    for batch in ("7", "16", "100"):
        assert main(["predict", "runs/tiny", "x.npy", "--out", "y.npy", "--batch", batch]) == 0
        assert capsys.readouterr().out == "16 predictions of shape (2) in y.npy\n"
        # batches of another size may be summed in another order: a few units in the last place of float32
        np.testing.assert_allclose(np.load("y.npy"), expected, rtol=1e-5)
        assert np.load("y.npy").dtype == np.float32


def test_predict_casts_integers_and_doubles(at_home):
    np.save("whole.npy", np.arange(30).reshape(3, 10, 1))
    np.save("double.npy", np.arange(30.0).reshape(3, 10, 1))
    for name in ("whole", "double"):
        assert main(["predict", "runs/tiny", f"{name}.npy", "--out", f"{name}_y.npy"]) == 0
    np.testing.assert_array_equal(np.load("whole_y.npy"), np.load("double_y.npy"))


def test_predict_never_holds_the_whole_input(at_home, monkeypatch):
    from jaxconv.app import prediction
    from jaxconv.training import evaluation

    seen = []

    def watched(apply_fn, params, x, batch_size):
        assert isinstance(x, np.memmap)
        for rows in evaluation.predict_batches(apply_fn, params, x, batch_size):
            seen.append(len(rows))
            assert not Path("y2.npy").exists()  # it takes its name when it is whole
            yield rows

    monkeypatch.setattr(prediction, "predict_batches", watched)
    assert main(["predict", "runs/tiny", "x.npy", "--out", "y2.npy", "--batch", "8"]) == 0
    assert seen == [8, 8] and np.load("y2.npy").shape == (16, 2)


def test_a_failing_prediction_leaves_no_file(at_home, monkeypatch):
    from jaxconv.app import prediction

    def failing(*args):
        yield np.zeros((8, 2), "float32")
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "predict_batches", failing)
    assert main(["predict", "runs/tiny", "x.npy", "--out", "y3.npy"]) == 130
    assert not list(Path().glob("*y3.npy*"))


def test_the_loss_that_is_not_finite_ends_with_code_1(at_home, capsys):
    settings = ["--set", "train.optimizer.learning_rate=1e38", "--set", "train.optimizer.name=sgd"]
    assert main(["train", "tiny.toml", *settings, "--set", "train.epochs=50"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("jaxconv: error: ") and "learning rate" in error


def command(*arguments: str, **options) -> subprocess.Popen:
    """Start the command in a process of its own, as a user would."""
    code = "import sys; from jaxconv.cli.command_line import main; sys.exit(main())"
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, text=True, **options)


def test_as_a_module_it_is_the_same_command(at_home):
    paths = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-m", "jaxconv", "trian"], env=paths, capture_output=True, text=True)
    assert done.returncode == 2 and "did you mean 'train'?" in done.stderr and "Traceback" not in done.stderr


def wait_for_rows(path: Path, count: int, process: subprocess.Popen) -> None:
    """Wait until a run has recorded so many epochs."""
    while process.poll() is None and (not path.exists() or len(path.read_text().splitlines()) <= count):
        time.sleep(0.01)


LONGER = ["--set", "train.epochs=200"]


@pytest.fixture(scope="module")
def whole(home):
    """Give a longer run that nothing stopped."""
    assert main(["train", str(home / "tiny.toml"), *LONGER, "--out", str(home / "whole")]) == 0
    return home / "whole"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_stopped_and_resumed_equals_one_that_was_not(at_home, whole, tmp_path, capsys, number):
    stopped = tmp_path / "stopped"
    process = command("train", "tiny.toml", *LONGER, "--out", str(stopped), stderr=subprocess.PIPE)
    wait_for_rows(stopped / "metrics.csv", 17, process)
    process.send_signal(number)
    error = process.communicate()[1]
    assert len((stopped / "metrics.csv").read_text().splitlines()) < 200, "the run was over before it was stopped"
    if number == signal.SIGINT:
        assert process.returncode == 130 and "Traceback" not in error
        assert error.splitlines()[-1].endswith(f"go on with: jaxconv train --resume {stopped}")
        assert (stopped / "learning_curve.png").exists()
    assert main(["info", str(stopped)]) == 0
    assert f"not finished; go on with: jaxconv train --resume {stopped}" in capsys.readouterr().out

    assert main(["train", "--resume", str(stopped)]) == 0
    for name in ("config.toml", "metrics.csv", "model.keras"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name
