"""Reading files in a child process whose time and memory are limited, so that a hostile file cannot hurt the tests.

The child imports jaxconv once and reads one file after the other. It reports what each cost: CPU seconds, and the
growth of its resident memory at the peak.
"""

import contextlib
import json
import os
import re
import resource
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ADDRESS_SPACE = 2**32  # beyond what the child has mapped after its imports
WALL_SECONDS = 60  # on a busy machine; the tests compare CPU seconds


class Outcome(NamedTuple):
    """What reading a file gave: "read", or the error's class and message; "died" or "hung" for the child's end."""

    kind: str
    message: str
    seconds: float
    megabytes: float


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
        alive = self._child.poll() is None
        self.__exit__()
        return Outcome("hung" if alive else "died", "", WALL_SECONDS, 0)

    def _start(self):
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-m", "tests.support.bounded"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._child = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2], **pipes)
        assert self._line() == b"ready\n"

    def _line(self):
        ready, _, _ = select.select([self._child.stdout], [], [], WALL_SECONDS)
        return self._child.stdout.readline() if ready else b""


# -- the child


def _readers():
    from jaxconv.files.loading import read_model
    from jaxconv.files.safetensors import load_params
    from jaxconv.serving import load_exported

    def run_exported(path):
        import numpy as np

        program = load_exported(path)
        if isinstance(program.input_shape, tuple):
            program(np.zeros([size or 1 for size in program.input_shape], program.dtype))

    return {"model": read_model, "safetensors": load_params, "exported": load_exported, "run": run_exported}


def _megabytes(name):
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024


def _main():
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
        kind, message = "read", ""
        try:
            readers[task["how"]](task["path"], **task["options"])
        except BaseException as error:
            kind, message = type(error).__name__, str(error)
        cost = {"seconds": time.process_time() - start, "megabytes": _megabytes("VmHWM") - before}
        print(json.dumps({"kind": kind, "message": message[:2000], **cost}), file=answers, flush=True)


if __name__ == "__main__":
    _main()
