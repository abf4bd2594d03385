"""``jaxconv stream``: the outputs of the whole sequence from files, audio and pipes; no files after a failure."""

import io
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.app import streaming
from jaxconv.cli.command_line import main
from tests.cli.test_process import PACKAGE, start, wait_for

pytest.importorskip("h5py")
CONV = jc.Conv1D(4, 3, padding="same", activation="relu")
INPUTS = [jc.Input((None, 1)), jc.Input((None, 1))]
MODELS = {
    "mono": (jc.Sequential([jc.Conv1D(4, 1), jc.Residual([CONV]), jc.MaxPooling1D(2)]), (None, None, 1)),
    "stereo": (jc.Sequential([CONV]), (None, None, 2)),
    "first": (jc.Sequential([jc.Conv1D(3, 5, padding="same", data_format="channels_first")]), (None, 2, None)),
    "pooled": (jc.Sequential([jc.Conv1D(4, 3), jc.GlobalAveragePooling1D()]), (None, None, 1)),
    "strided": (jc.Sequential([jc.Conv1D(4, 3, 2, "same")]), (None, None, 1)),
    "words": (jc.Sequential([jc.Embedding(5, 2), jc.Conv1D(2, 3)]), (None, None)),
    "two": (jc.Model(INPUTS, jc.Add()(INPUTS)), [(None, None, 1)] * 2),
}
RNG = np.random.default_rng(0)
X = {"x": RNG.normal(size=(41, 1)), "b": RNG.normal(size=(3, 41, 1)), "first": RNG.normal(size=(2, 41))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    for name, (model, shape) in MODELS.items():
        jc.save_model(folder / f"{name}.keras", model, model.init(jax.random.key(0), shape)[0], input_shape=shape)
    for name, x in X.items():
        np.save(folder / f"{name}.npy", x.astype("float32"))
    np.save(folder / "words.npy", RNG.integers(0, 5, 41))
    np.save(folder / "short.npy", X["x"][:2])
    (folder / "junk.wav").write_bytes(b"junk")
    return folder


@pytest.fixture
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def whole(name, x):
    """Return what the model in a file computes for one sequence."""
    params, apply_fn = jc.load_model(f"{name}.keras")
    return np.asarray(apply_fn(params, np.asarray(x)[None]))[0]


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["mono", "x.npy", "--chunk", "3"], ["--chunk 3", "block of 2", "2 or 4"]),
        (["mono", "x.npy", "--chunk", "0"], ["--chunk 0", "block of 2", "give 2"]),
        (["mono", "x.npy", "--axis", "3"], ["axis=3", "1 to 2"]),
        (["mono", "x.npy", "--axis", "2"], ["conv1d", "axis 2"]),
        (["stereo", "x.npy"], ["(41, 1)", "(None, None, 2)", "(None, 2)"]),
        (["pooled", "x.npy"], ["global_average_pooling1d", "cumulative", "window=W"]),
        (["pooled", "x.npy", "--window", "2"], ["window=2", "valid window is 3"]),
        (["pooled", "x.npy", "--pooling", "mean"], ["'mean'", "'cumulative'"]),
        (["pooled", "short.npy", "--pooling", "cumulative"], ["2 steps", "valid input is 3"]),
        (["strided", "x.npy"], ["41 steps", "conv1d", "40 or 42"]),
        (["two", "x.npy"], ["one input and one output", "jaxconv.stream"]),
        (["mono", "no.npy"], ["no.npy"]),
        (["mono", "no.wav"], ["no.wav"]),
        (["mono", "mono.keras"], ["mono.keras", ".npy", ".wav"]),
        (["mono", "-"], ["y.npy", "> FILE"]),
        (["mono", "b.npy", "--out", "-"], ["b.npy", "3 rows"]),
        (["mono", "x.npy", "--out", "y.wav"], ["y.wav", "--out Y.npy"]),
        (["mono", "x.npy", "--out", "x.npy", "--force"], ["x.npy"]),
        (["mono", "x.npy", "--out", "b.npy"], ["b.npy", "--force"]),
        (["mono", "x.npy", "--out", "no/y.npy"], ["no/y.npy"]),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_file(inside, error_line, arguments, facts):
    before = sorted(os.listdir())
    out = [] if "--out" in arguments else ["--out", "y.npy"]
    error = error_line("stream", f"{arguments[0]}.keras", *arguments[1:], *out)
    for fact in facts:
        assert fact in error, error
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("name", "x", "options"),
    [
        ("mono", "x", ["--chunk", "2000000000"]),
        ("mono", "b", ["--chunk", "6"]),
        ("first", "first", ["--axis", "2", "--chunk", "7"]),
        ("words", "words", ["--chunk", "6"]),
    ],
)
def test_outputs_are_those_of_the_whole_sequence(inside, tmp_path, capsys, name, x, options):
    out = str(tmp_path / "y.npy")
    assert main(["stream", f"{name}.keras", f"{x}.npy", "--out", out, *options]) == 0
    x, y = np.load(f"{x}.npy"), np.load(out)
    want = np.stack([whole(name, row) for row in x]) if x.ndim == 3 else whole(name, x)
    assert y.shape == want.shape and y.dtype == np.float32
    np.testing.assert_allclose(y, want, atol=1e-6)  # sums of another chunk may be in another order
    printed = capsys.readouterr().out
    assert "41 steps" in printed and "steps/s" in printed and out in printed


def test_without_out_the_error_names_the_option(inside, error_line):
    error = error_line("stream", "mono.keras", "x.npy")
    assert error.startswith("no --out: outputs of x.npy") and "give --out Y.npy, or --out -" in error


def test_heads_are_chosen_by_options(inside, tmp_path):
    for options, count in ([["--pooling", "cumulative"], 39], [["--window", "10"], 32]):
        out = str(tmp_path / f"{count}.npy")
        assert main(["stream", "pooled.keras", "x.npy", "--out", out, *options]) == 0
        assert np.load(out).shape == (count, 4)
    np.testing.assert_allclose(np.load(tmp_path / "39.npy")[-1], whole("pooled", X["x"]), atol=1e-6)
    np.testing.assert_allclose(np.load(tmp_path / "32.npy")[-1], whole("pooled", X["x"][-10:]), atol=1e-6)


@pytest.mark.parametrize(("name", "channels", "rate"), [("mono", 1, 16000), ("stereo", 2, 44100)])
def test_audio_is_streamed_and_its_rate_printed(inside, tmp_path, capsys, name, channels, rate):
    soundfile = pytest.importorskip("soundfile")
    sound = RNG.uniform(-1, 1, (4410, channels)).astype("float32")
    soundfile.write(tmp_path / "x.wav", sound, rate, subtype="FLOAT")
    out = str(tmp_path / "y.npy")
    assert main(["stream", f"{name}.keras", str(tmp_path / "x.wav"), "--chunk", "160", "--out", out]) == 0
    np.testing.assert_allclose(np.load(out), whole(name, sound), atol=1e-6)
    printed = capsys.readouterr().out
    assert f"{rate} Hz" in printed and f"{4410 / rate:.2f} s of audio" in printed and "times real time" in printed


def test_audio_that_does_not_fit_is_refused(inside, tmp_path, error_line):
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "x.wav", np.zeros((100, 2)), 8000)
    error = error_line("stream", "mono.keras", str(tmp_path / "x.wav"), "--out", "y.npy")
    assert "(2,)" in error and "(1,)" in error
    assert "junk.wav" in error_line("stream", "mono.keras", "junk.wav", "--out", "y.npy")


def test_a_missing_package_is_named_with_what_to_install(inside, error_line, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert "pip install soundfile" in error_line("stream", "mono.keras", "junk.wav", "--out", "y.npy")


def raw(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize(
    ("name", "x", "options"),
    [("mono", X["x"], []), ("first", X["first"], ["--axis", "2", "--chunk", "8"])],
)
def test_raw_frames_pass_through_a_pipe(inside, monkeypatch, capsysbinary, name, x, options):
    time_first = x.T if name == "first" else x
    raw(monkeypatch, time_first.astype("<f4").tobytes())
    assert main(["stream", f"{name}.keras", "-", *options]) == 0
    printed = capsysbinary.readouterr()
    want = whole(name, x.astype("float32"))
    want = want.T if name == "first" else want
    np.testing.assert_allclose(np.frombuffer(printed.out, "<f4").reshape(want.shape), want, atol=1e-6)
    assert b"41 steps" in printed.err and b"float32" in printed.err


@pytest.mark.parametrize(
    ("name", "size", "facts"),
    [
        ("mono", 6, ["ends within a step", "2 of the 4 bytes"]),
        ("mono", 0, ["0 steps", "valid input is 2"]),
        ("strided", 20, ["5 steps", "4 or 6"]),
    ],
)
def test_a_pipe_that_ends_in_the_wrong_place_is_refused(inside, monkeypatch, error_line, name, size, facts):
    raw(monkeypatch, bytes(size))
    error = error_line("stream", f"{name}.keras", "-")
    assert all(fact in error for fact in facts), error


def test_an_interrupted_stream_leaves_no_file(inside, tmp_path, monkeypatch):
    def interrupted(*args):
        yield np.zeros((1, 8, 4), np.float32)
        raise KeyboardInterrupt

    monkeypatch.setattr(streaming, "run_chunks", interrupted)
    assert main(["stream", "mono.keras", "x.npy", "--out", str(tmp_path / "y.npy")]) == 130
    assert os.listdir(tmp_path) == []


def test_outputs_come_at_once_and_a_closed_pipe_ends_the_stream(inside):
    with subprocess.Popen(
        [sys.executable, "-m", "jaxconv", "stream", "stereo.keras", "-"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([PACKAGE, os.environ.get("PYTHONPATH", "")])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        process.stdin.write(np.ones((3, 2), "<f4").tobytes())
        assert len(process.stdout.read(32)) in (16, 32)  # while the input goes on
        process.stdout.close()
        with pytest.raises(BrokenPipeError):
            while True:
                process.stdin.write(bytes(8000))
        error = process.stderr.read().decode()
    assert process.returncode == 0 and "Traceback" not in error and "Exception" not in error


@pytest.mark.slow
def test_a_terminated_stream_leaves_no_file(inside, tmp_path):
    with open(tmp_path / "x.npy", "wb") as handle:  # large, and sparse
        np.lib.format.write_array_header_1_0(handle, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 1)})
        handle.truncate(handle.tell() + 4 * 10**9)
    process = start("stream", "mono.keras", str(tmp_path / "x.npy"), "--out", str(tmp_path / "y.npy"))
    wait_for(lambda: any(path.stat().st_size > 1000 for path in tmp_path.glob(".y.npy*")), process)
    process.send_signal(signal.SIGTERM)
    error = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM and "Traceback" not in error
    assert os.listdir(tmp_path) == ["x.npy"]
