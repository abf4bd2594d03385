"""Reading files in a child process whose time and memory are limited, so that a hostile file cannot hurt the tests.

The child imports jaxconv once and reads one file after the other. It reports what each cost: CPU seconds, and the
growth of its resident memory at the peak.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import re
import resource
import select
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

ADDRESS_SPACE = 2**32  # beyond what the child has mapped after its imports
WALL_SECONDS = 60  # on a busy machine; the tests compare CPU seconds


class Outcome(NamedTuple):
    """What reading a file gave: "read", or the error's class and message; for the child's end, "hung" or "died ...".

    arrays: a digest of each array that was read. cause: the class and the place of the exception behind the error.
    """

    kind: str
    message: str
    seconds: float
    megabytes: float
    arrays: tuple[str, ...] = ()
    cause: str = ""


class BoundedReader:
    """A child process that reads files; it is started again when it has died.

    >>> with BoundedReader() as reader:
    ...     reader.read("nowhere.keras").kind
    'FileError'
    """

    def __init__(self):
        self._child = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def read(self, path, how="model", **options):
        """Read a file. ``how`` is a key of ``READERS``; options are passed on."""
        if self._child is None:
            self._start()
        self._child.stdin.write(json.dumps({"path": str(path), "how": how, "options": options}).encode() + b"\n")
        self._child.stdin.flush()
        line = self._line()
        if line:
            return Outcome(**json.loads(line))
        try:
            kind = f"died with status {self._child.wait(1)}"
        except subprocess.TimeoutExpired:
            kind = "hung"
        self.__exit__()
        return Outcome(kind, "", WALL_SECONDS, 0)

    def _start(self):
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-m", "tests.support.bounded"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._child = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2], **pipes)
        assert self._line() == b"ready\n"

    def _line(self):
        ready, _, _ = select.select([self._child.stdout], [], [], WALL_SECONDS)
        return self._child.stdout.readline() if ready else b""


def digest(array):
    """Return a digest of an array's bytes; arrays of one type differ in their digests."""
    return hashlib.sha1(array.tobytes(), usedforsecurity=False).hexdigest()


# -- the child


def _readers():
    """Return functions of a path by name; what they return is what the file contains, arrays among it."""
    import numpy as np

    from jaxconv import data_format
    from jaxconv.app.array_files import map_npy, read_npz
    from jaxconv.app.compatibility import check_shapes, load_data
    from jaxconv.app.config import read_config
    from jaxconv.app.data.arrays import KEYS
    from jaxconv.app.run_folder import read_metrics, read_results
    from jaxconv.cli.command_line import main
    from jaxconv.files.loading import load_weights, read_model
    from jaxconv.files.safetensors import load_params
    from jaxconv.kernels import tuning_cache
    from jaxconv.serving import load_exported
    from jaxconv.training import checkpoint
    from tests.support import fuzzing

    def run_exported(path):
        program = load_exported(path)
        if isinstance(program.input_shape, tuple) and math.prod(filter(None, program.input_shape)) < 2**20:
            program(np.zeros([size or 1 for size in program.input_shape], program.dtype))

    def config(path):
        found = read_config(path)
        check_shapes(found, load_data(found))

    def keras_json(path):
        os.environ["KERAS_HOME"], data_format._default = str(Path(path).parent), None
        try:
            assert data_format.image_data_format() in data_format.FORMATS
        finally:
            data_format._default = data_format.FORMATS[0]  # for the files that follow

    def tuned(path):
        os.environ[tuning_cache.VARIABLE] = path
        tuning_cache._loaded.clear()
        tuning_cache.winners("cpu")

    def command(*arguments):
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            code = main(arguments)
        assert code in (0, 2), f"exit status {code}: {text.getvalue()}"
        assert all(c.isprintable() or c in "\n\t" for c in text.getvalue()), ascii(text.getvalue())
        assert code == 0 or text.getvalue().count("\n") == 1, text.getvalue()

    return {
        "model": lambda path, **options: read_model(path, **options).params,
        "layer": lambda path: read_model(path, untrained=True).params,
        "weights": lambda path: load_weights(path, *fuzzing.layer_and_params()),
        "safetensors": load_params,
        "exported": load_exported,
        "run": run_exported,
        "npy": map_npy,
        "npz": lambda path: read_npz(path, KEYS),
        "checkpoint": lambda path: checkpoint.load(path, *fuzzing.state_and_run()).state,
        "config": config,
        "keras.json": keras_json,
        "results": lambda path: read_results(Path(path).parent),
        "metrics": lambda path: read_metrics(Path(path).parent),
        "tuned": tuned,
        "stored": fuzzing.stored_digests,
        "info": lambda path: command("info", path),
        "predict": lambda path: command("predict", path, path, "--out", f"{path}.npy"),
    }


def _cause(error):
    """Return the class and the place of the exception behind an error, in the files of jaxconv."""
    found, place = error.__cause__ or error, ""
    trace = found.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{code.co_filename.rpartition('/jaxconv/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(found).__name__} at {place}"


def _megabytes(name):
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024


def _main():
    import jax
    import numpy as np

    warnings.simplefilter("ignore")
    readers = _readers()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that a library prints gets between the answers
    with contextlib.suppress(OSError):
        limit = int(_megabytes("VmSize") * 2**20) + ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory starts again
        before, start = _megabytes("VmRSS"), time.process_time()
        kind, message, cause, value = "read", "", "", None
        try:
            value = readers[task["how"]](task["path"], **task["options"])
        except BaseException as error:
            kind, message, cause = type(error).__name__, str(error), _cause(error)
        cost = {"seconds": time.process_time() - start, "megabytes": _megabytes("VmHWM") - before}
        leaves = [leaf for leaf in jax.tree.leaves(value) if isinstance(leaf, np.ndarray | jax.Array)]
        arrays = value if task["how"] == "stored" else [digest(np.asarray(leaf)) for leaf in leaves]
        found = {"kind": kind, "message": message[:2000], "cause": cause, "arrays": arrays}
        print(json.dumps(found | cost), file=answers, flush=True)


if __name__ == "__main__":
    _main()
