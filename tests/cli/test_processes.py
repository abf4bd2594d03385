"""Several processes: checks of their inputs, ending together, and results equal to those of one process."""

import concurrent.futures
import contextlib
import csv
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxconv
from jaxconv.cli.command_line import main
from jaxconv.cli.supervisor import Place, supervise

pytest.importorskip("h5py")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


# Options


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--devices", "0"], ["--devices 0", "a positive number"]),
        (["--devices", "many"], ["--devices many", "all"]),
        (["--devices", "900"], ["--devices 900", "8", "force_host_platform_device_count=900"]),
        (["--devices", "3"], ["batch_size", "8", "3 devices", "multiple of 3"]),
        (["--devices", "all", "--set", "train.batch_size=4"], ["batch_size", "4", "8 devices"]),
        (["--processes", "2"], ["--processes", "--coordinator"]),
        (["--coordinator", "a:1", "--processes", "2"], ["--process I"]),
        (["--coordinator", "here", "--processes", "2", "--process", "0"], ["--coordinator here", "HOST:PORT"]),
        (["--coordinator", "a:99999", "--processes", "2", "--process", "0"], ["--coordinator a:99999", "HOST:PORT"]),
        (["--coordinator", "a:1", "--processes", "1", "--process", "0"], ["--processes 1", "2"]),
        (["--coordinator", "a:1", "--processes", "2", "--process", "2"], ["--process 2", "0 to 1"]),
        (["--coordinator", "a:1", "--processes", "2", "--process", "0", "--devices", "3"], ["--devices 3", "all"]),
        (["--coordinator", "no.invalid:1", "--processes", "2", "--process", "1", "--wait", "1"], ["no.invalid:1"]),
    ],
)
def test_a_mistake_in_the_options_is_one_line(at_home, error_line, tmp_path, arguments, facts):
    error = error_line("train", "tiny.toml", "--out", str(tmp_path / "run"), *arguments)
    for fact in facts:
        assert fact in error, error
    assert not (tmp_path / "run").exists()


def greet(server: socket.socket) -> None:
    """Answer as another program does."""
    with server.accept()[0] as connection:
        connection.sendall(b"SSH-2.0-other\r\n")


def test_a_coordinator_that_does_not_answer_is_one_line(at_home, error_line):
    address = f"127.0.0.1:{free_port()}"
    several = ["--coordinator", address, "--processes", "2", "--wait", "1"]
    error = error_line("train", "tiny.toml", *several, "--process", "1", code=1)
    assert address in error and "1 seconds" in error
    error = error_line("train", "tiny.toml", *several, "--process", "0", code=1)
    assert error.strip().endswith(": 1")
    with socket.create_server(("127.0.0.1", 0)) as server, concurrent.futures.ThreadPoolExecutor() as pool:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        other = pool.submit(greet, server)
        arguments = ["--coordinator", address, *several[2:], "--process", "1"]
        assert address in error_line("train", "tiny.toml", *arguments, code=1)
        other.result(60)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert address in error_line("train", "tiny.toml", "--coordinator", address, *several[2:], "--process", "0")


# How processes end together, with workers that do nothing

WORKER = """if True:
    import json, os, signal, socket, time
    facts = json.loads(os.environ["JAXCONV_WORKER"])
    channel = socket.socket(fileno=facts["channel"])
    def tell(**message):
        channel.sendall(json.dumps(message).encode() + b"\\n")
    tell(folder="runs/a")
"""
FINE = "tell(ended=0, message='')"
WAIT = "time.sleep(600)"


def together(*codes: str, versions=("same", "same"), counts=(2, 2)) -> list[tuple[str, int]]:
    """Run a supervisor with each code as its worker; return what each prints, and its exit code."""
    port = free_port()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ends = [
            pool.submit(
                supervise,
                Place("127.0.0.1", port, counts[number], number),
                [sys.executable, "-c", f"{WORKER}\n    {code}"],
                versions[number],
                60,
            )
            for number, code in enumerate(codes)
        ]
        return [end.result(300) for end in ends]


def test_all_end_when_all_have_finished():
    assert together(FINE, f"time.sleep(0.2); {FINE}") == [("", 0), ("", 0)]


@pytest.mark.parametrize(("codes", "source"), [((WAIT, "os.kill(os.getpid(), 9)"), 1), (("os._exit(3)", WAIT), 0)])
def test_the_death_of_one_worker_ends_all(codes, source):
    ends = together(*codes)
    assert [code for _, code in ends] == [1, 1]
    how = "SIGKILL" if source else "exit code 3"
    assert how in ends[source][0] and how in ends[1 - source][0] and f"process {source}" in ends[1 - source][0]
    assert "--resume runs/a" in ends[source][0]


@pytest.mark.slow
@pytest.mark.parametrize("source", [1, 0])
def test_a_lost_connection_is_blamed_on_what_caused_it(source):
    """The collective of one fails at once; that of the other has failed because of it."""
    lost = "tell(ended=1, message='Gloo: connection closed', soft=True); time.sleep(600)"
    cause = "time.sleep(1); tell(ended=2, message='no such key', soft=False)"
    ends = together(*((lost, cause) if source else (cause, lost)))
    assert ends[source] == ("no such key", 2)
    text, code = ends[1 - source]
    assert code == 1 and f"process {source}" in text and "no such key" in text and "Gloo" not in text
    ends = together(lost, lost) if source else []
    assert all("Gloo" in text and code == 1 for text, code in ends)


def test_a_process_that_ends_before_all_have_started_ends_the_command():
    port = free_port()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        end = pool.submit(supervise, Place("127.0.0.1", port, 3, 0), [sys.executable, "-c", WORKER], "same", 60)
        for message in (b"SSH-2.0-other\r\n", b"no line", b'{"join": 2, "processes": 3, "version": "same"}\n'):
            while not end.done():
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5.0) as connection:
                    connection.sendall(message)
                    assert message[:1] != b"{" or b"alive" in connection.recv(100)  # while it waits for process 1
                    break
                time.sleep(0.05)
        text, code = end.result(60)
    assert code == 1 and "process 2 ended" in text


@pytest.mark.parametrize(
    ("options", "facts"), [({"versions": ("one", "two")}, ["one", "two"]), ({"counts": (2, 3)}, ["2", "3"])]
)
def test_processes_that_do_not_belong_together_are_refused(options, facts):
    for text, code in together(FINE, FINE, **options):
        assert code in (1, 2) and all(fact in text for fact in facts), text


# Real processes


def start(*arguments: str, environment: dict[str, str] | None = None, devices: int = 1) -> subprocess.Popen:
    """Start the command in its own process, with a number of devices."""
    paths = os.pathsep.join(filter(None, [str(Path(jaxconv.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
    flags = re.sub("device_count=8", f"device_count={devices}", os.environ["XLA_FLAGS"])
    return subprocess.Popen(
        [sys.executable, "-m", "jaxconv", *arguments],
        env=os.environ | {"PYTHONPATH": paths, "XLA_FLAGS": flags} | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def both(*arguments: str, extra=((), ()), **options) -> list[subprocess.Popen]:
    """Start a command in two processes."""
    several = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2", "--process"]
    return [start(*arguments, *several, str(number), *extra[number], **options) for number in (0, 1)]


def ends(processes) -> list[tuple[int, str, str]]:
    """Wait for the end of processes; return their exit codes, and what they printed."""
    texts = [process.communicate(timeout=500) for process in processes]
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


def losses(folder: Path) -> np.ndarray:
    with open(folder / "metrics.csv") as handle:
        return np.array([[float(value) for value in row[1:]] for row in list(csv.reader(handle))[1:]])


NETS = {
    "fcn": """
        {layer="Conv1D", filters=4, kernel_size=5, padding="same"}, {layer="BatchNormalization"}, {layer="ReLU"},
        {layer="Conv1D", filters=4, kernel_size=3, padding="same"}, {layer="BatchNormalization"}, {layer="ReLU"},
        {layer="GlobalAveragePooling1D"}, {layer="Dense", units=2, activation="softmax"}""",
    "grouped": """
        {layer="Conv1D", filters=8, kernel_size=3}, {layer="Conv1D", filters=8, kernel_size=3, groups=4},
        {layer="DepthwiseConv1D", kernel_size=3, activation="relu"}, {layer="Dropout", rate=0.3},
        {layer="GlobalMaxPooling1D"}, {layer="Dense", units=2, activation="softmax"}""",
    "tcn": """
        {layer="Masking"}, {layer="Conv1D", filters=4, kernel_size=3, padding="causal", dilation_rate=1},
        {layer="Dropout", rate=0.2}, {layer="Conv1D", filters=4, kernel_size=3, padding="causal", dilation_rate=2},
        {layer="GlobalAveragePooling1D"}, {layer="Dense", units=2, activation="softmax"}""",
}
CONFIG = """
data = {{source="npz", path="net.npz"}}
model = {{dtype="{dtype}", layers=[{layers}]}}
[train]
loss = "sparse_categorical_crossentropy"
optimizer = {{name="sgd", learning_rate=0.05, momentum=0.9}}
metrics = ["accuracy"]
epochs = 10
batch_size = 8
validation_split = 0.2
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """Return a folder with configs; the data has sequences of unequal length, and an epoch a step of five samples."""
    folder = tmp_path_factory.mktemp("nets")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(17, 12, 3)).astype("float32"), np.arange(17) % 2
    for row, length in enumerate(rng.integers(5, 13, 17)):
        x[row, length:] = 0
    np.savez(folder / "net.npz", x_train=x, y_train=y, x_test=x[:7], y_test=y[:7])
    for name, layers in NETS.items():
        for dtype in ("float32", "float64"):
            text = CONFIG.format(dtype=dtype, layers=" ".join(layers.split()))
            (folder / f"{name}_{dtype}.toml").write_text(text)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("net", NETS)
def test_twenty_steps_of_two_processes_equal_those_of_one_device(nets, monkeypatch, net, dtype, tolerance):
    monkeypatch.chdir(nets)
    config, name = f"{net}_{dtype}.toml", f"runs/{net}_{dtype}"
    wide = {"JAX_ENABLE_X64": "1"} if dtype == "float64" else {}
    processes = both("train", config, "--devices", "all", "--out", f"{name}_2", environment=wide)
    with jax.enable_x64(bool(wide)):
        assert main(["train", config, "--out", name]) == 0
        assert main(["train", config, "--out", f"{name}_8", "--devices", "8"]) == 0
    (code, out, _), (other, silent, nothing) = ends(processes)
    assert code == other == 0 and "test accuracy" in out and not silent and not nothing
    assert len(losses(Path(name))) == 10
    for folder in (f"{name}_2", f"{name}_8"):
        np.testing.assert_allclose(losses(Path(folder)), losses(Path(name)), rtol=tolerance, atol=tolerance)
        assert sorted(os.listdir(folder)) == sorted(os.listdir(name))


LONGER = ["--set", "train.epochs=50", "--devices", "all"]


@pytest.fixture(scope="module")
def uninterrupted(home, tmp_path_factory):
    """Return the folder of a longer run of two processes that was not interrupted."""
    folder = tmp_path_factory.mktemp("two") / "whole"
    assert [code for code, *_ in ends(both("train", str(home / "tiny.toml"), *LONGER, "--out", str(folder)))] == [0, 0]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "number"), [(0, signal.SIGKILL), (1, signal.SIGKILL), (0, signal.SIGINT), (1, signal.SIGTERM)]
)
def test_the_end_of_one_process_ends_both_and_the_run_resumes(at_home, uninterrupted, tmp_path, victim, number):
    folder = tmp_path / "run"
    rows, other = folder / "metrics.csv", 1 - victim
    processes = both("train", "tiny.toml", *LONGER, "--out", str(folder))
    while not (rows.exists() and len(rows.read_text().splitlines()) > 10):
        assert processes[victim].poll() is None
        time.sleep(0.01)
    processes[victim].send_signal(number)
    found = ends(processes)
    assert len(rows.read_text().splitlines()) < 50, "the run ended before it was interrupted"
    expected = -number if number == signal.SIGKILL else 128 + number
    assert found[victim][0] == expected and found[other][0] == 1
    message = found[other][2].splitlines()[-1]
    assert message.startswith(f"jaxconv: error: process {victim}") and f"--resume {folder}" in message
    for _, _, error in found:
        assert "Traceback" not in error and "***" not in error and error.count("jaxconv: ") <= 1
    devices = ["--devices", "all"]
    assert [code for code, *_ in ends(both("train", "--resume", str(folder), *devices))] == [0, 0]
    for name in ("config.toml", "metrics.csv", "model.keras"):
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    assert sorted(os.listdir(folder)) == sorted(os.listdir(uninterrupted))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (["--set", "train.epochs=3"], ["train.epochs", "3 in process 1", "2 in process 0"]),
        (["--set", "model.layers.0.filters=3"], ["model.layers.0.filters", "3 in process 1", "2 in process 0"]),
        (["--set", "data.path=other.npz"], ["y_test of data.path", "other.npz", "tiny.npz", "checksum"]),
        (["--set", "train.epochs=x"], ['train.epochs = "x"', "integer"]),
    ],
)
def test_processes_that_differ_say_in_what(at_home, tmp_path, change, facts):
    data = dict(np.load("tiny.npz"))
    np.savez("other.npz", **data | {"y_test": data["y_test"][::-1]})
    for code, out, error in ends(both("train", "tiny.toml", "--out", str(tmp_path / "run"), extra=((), change))):
        assert code in (1, 2) and not out and error.count("\n") == 1
        assert all(fact in error for fact in facts), error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_evaluate_and_predict_as_one_does(at_home, tmp_path, capsys):
    assert main(["evaluate", "runs/tiny"]) == 0
    (_, out, _), (_, silent, _) = ends(both("evaluate", "runs/tiny", "--devices", "all"))
    assert out == capsys.readouterr().out and not silent
    files = [tmp_path / "one.npy", tmp_path / "two.npy"]
    assert main(["predict", "runs/tiny", "x.npy", "--out", str(files[0])]) == 0
    found = ends(both("predict", "runs/tiny", "x.npy", "--out", str(files[1]), "--batch", "12", devices=2))
    assert [code for code, *_ in found] == [0, 0] and sorted(os.listdir(tmp_path)) == ["one.npy", "two.npy"]
    np.testing.assert_allclose(np.load(files[1]), np.load(files[0]), rtol=1e-6)
