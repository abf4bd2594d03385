"""Worker of one of several processes: it joins JAX's distributed system, and reports to its supervisor."""

import contextlib
import io
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator

from jaxconv.cli.channel import CLOSED, Channel

ENVIRONMENT = "JAXCONV_WORKER"  # the environment variable with the supervisor's data for its worker, as JSON
_HEARTBEAT = 3600  # seconds after which JAX aborts; the supervisors notice earlier


class Worker:
    """The worker's connection to its supervisor, and the context in which it runs.

    current: the worker that this process is, or None in other processes.
    """

    current: "Worker | None" = None

    def __init__(self, channel: Channel, coordinator: str, count: int, number: int):
        self.channel, self.coordinator, self.count, self.number = channel, coordinator, count, number

    def report(self, message: str, code: int) -> None:
        """Report the end of the command."""
        lost = "Gloo" in message or "coordination service" in message  # may be due to the end of another process
        self.channel.send(ended=code, message=message, soft=lost)

    def tell_folder(self, folder: object) -> None:
        """Report where the progress is saved."""
        self.channel.send(folder=str(folder))

    @contextlib.contextmanager
    def running(self, keep: bool) -> Iterator[None]:
        """Run a block together with the other processes, and report that it has succeeded.

        Only process 0 writes to standard output, and the output of C++ libraries is discarded, unless ``keep`` is set
        to look for errors.
        """
        import jax

        Worker.current = self
        threading.Thread(target=self._follow, daemon=True).start()
        with contextlib.nullcontext() if keep else _streams(self.number == 0):
            jax.config.update("jax_enable_preemption_service", False)  # it takes SIGTERM away
            jax.distributed.initialize(self.coordinator, self.count, self.number, heartbeat_timeout_seconds=_HEARTBEAT)
            yield
            sys.stdout.flush()
            jax.distributed.shutdown()  # when all are done
        self.report("", 0)

    def _follow(self) -> None:
        """End when the supervisor does."""
        self.channel.socket.settimeout(None)
        while CLOSED not in self.channel.receive():
            pass
        os._exit(1)


def find_worker() -> Worker | None:
    """Return the worker that this process is, or None if no supervisor has started it."""
    text = os.environ.pop(ENVIRONMENT, None)
    if text is None:
        return None
    facts = json.loads(text)
    channel = Channel(socket.socket(fileno=facts["channel"]))
    return Worker(channel, facts["coordinator"], facts["processes"], facts["process"])


@contextlib.contextmanager
def _streams(output: bool) -> Iterator[None]:
    null = os.open(os.devnull, os.O_WRONLY)
    with contextlib.ExitStack() as stack:
        out, err = (io.TextIOWrapper(os.fdopen(os.dup(number), "wb"), write_through=True) for number in (1, 2))
        for number in (1, 2):
            os.dup2(null, number)
        stack.enter_context(contextlib.redirect_stdout(out if output else stack.enter_context(open(os.devnull, "w"))))
        stack.enter_context(contextlib.redirect_stderr(err))
        yield
