"""Commands as processes: closed pipes, signals, the environment."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import jaxconv
from jaxconv.cli.process import Output

PACKAGE = str(Path(jaxconv.__file__).parents[1])


def start(*arguments: str, **environment: str) -> subprocess.Popen:
    """Start the command in its own process."""
    paths = os.pathsep.join(filter(None, [PACKAGE, os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-m", "jaxconv", *arguments],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, process: subprocess.Popen) -> None:
    """Wait until a condition is true or the process has ended."""
    while process.poll() is None and not condition():
        time.sleep(0.01)


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.slow
def test_a_closed_pipe_does_not_stop_training(at_home, tmp_path):
    """As in ``jaxconv train CONFIG 2>&1 | head -1``."""
    process = start("train", "tiny.toml", "--set", "train.epochs=30", "--out", str(tmp_path / "run"))
    process.stdout.readline()
    process.stdout.close()
    process.stderr.close()
    assert process.wait() == 0
    assert (tmp_path / "run" / "model.keras").exists() and lines_of(tmp_path / "run" / "metrics.csv") == 31


@pytest.mark.slow
def test_a_ctrl_c_during_a_garbage_collection_is_not_lost_and_prints_nothing():
    code = """if True:
        import gc, time
        from jaxconv.cli.process import run_process

        def main():
            def interrupt(*_):
                gc.callbacks.remove(interrupt)
                raise KeyboardInterrupt

            gc.callbacks.append(interrupt)
            try:
                gc.collect()
                time.sleep(20)
            except KeyboardInterrupt:
                return 130
            return 0

        run_process(main)
    """
    environment = os.environ | {"PYTHONPATH": str(PACKAGE)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("count", [5, pytest.param(25, marks=pytest.mark.slow)])
def test_any_number_of_ctrl_c_is_one_line_and_the_run_can_be_resumed(at_home, tmp_path, count):
    folder = tmp_path / "run"
    process = start("train", "tiny.toml", "--set", "train.epochs=100000", "--out", str(folder))
    wait_for(lambda: lines_of(folder / "metrics.csv") > 15, process)
    for _ in range(count):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    error = process.communicate()[1]
    # a Ctrl-C while the interpreter exits, whose handlers are gone, ends it by the signal: a shell shows 130 for both
    assert process.returncode in (130, -signal.SIGINT) and "Traceback" not in error
    assert f"jaxconv train --resume {folder}" in error.splitlines()[-1]
    assert not list(folder.glob(".*"))


def test_ctrl_c_while_jax_is_imported_prints_nothing(tmp_path):
    """The console script imports the package before it can handle a signal."""
    script = tmp_path / "jaxconv"
    script.write_text("import sys\nfrom jaxconv.cli import entry_point\nsys.exit(entry_point())\n")
    stub = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "jax.py").write_text(stub)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "stub"), PACKAGE])}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT and not done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)], ids=["SIGTERM", "SIGHUP"]
)
def test_a_terminated_prediction_leaves_no_file(at_home, tmp_path, number):
    with open(tmp_path / "x.npy", "wb") as handle:  # large, and sparse
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**8, 10, 1)}
        np.lib.format.write_array_header_1_0(handle, header)
        handle.truncate(handle.tell() + 4 * 10**9)
    process = start("predict", "runs/tiny", str(tmp_path / "x.npy"), "--out", str(tmp_path / "y.npy"))
    wait_for(lambda: any(path.stat().st_size > 1000 for path in tmp_path.glob(".y.npy*")), process)
    process.send_signal(number)
    error = process.communicate()[1]
    assert process.returncode == 128 + number and "Traceback" not in error
    assert os.listdir(tmp_path) == ["x.npy"]


def test_an_unknown_platform_is_a_mistake(at_home):
    process = start("info", "tiny.toml", JAX_PLATFORMS="nonsense")
    error = process.communicate()[1]
    assert process.returncode == 2 and "JAX_PLATFORMS" in error and error.count("\n") == 1


def test_a_stream_whose_reader_is_gone_discards_its_output():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        output = Output(stream, escapes=True)
        print("first", file=output, flush=True)
        assert os.read(reader, 100) == b"first\n"
        os.close(reader)
        for _ in range(3):
            print("second" * 10_000, file=output, flush=True)


@pytest.mark.slow
def test_calls_compute_in_the_calling_thread():
    code = """if True:
        import jax
        from jaxconv.cli.process import compute_in_calling_thread

        compute_in_calling_thread()
        assert jax.config.read("jax_cpu_enable_async_dispatch") is False
    """
    environment = os.environ | {"PYTHONPATH": str(PACKAGE)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
