"""The process of a command: its output streams, its signals and its memory."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn, TextIO

from jaxconv.allocator import keep_freed_memory


class Output:
    """A text stream that neither fails when its reader closes it nor passes on control characters from files.

    After ``jaxconv train CONFIG | head -1`` the reader is gone; the command continues, and its output is discarded.
    escapes: whether control characters are written as ``\\x1b``. A progress bar needs them on stderr.
    """

    def __init__(self, stream: TextIO, escapes: bool):
        self._stream, self._escapes = stream, escapes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, or discard it if the reader has closed the stream."""
        self._try(self._stream.write, printable(text) if self._escapes else text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._try(self._stream.flush)

    def _try(self, function: Callable[..., Any], *arguments: str) -> None:
        try:
            function(*arguments)
        except BrokenPipeError:
            _discard(self._stream)


def _discard(stream: Any) -> None:
    """Discard the content of a stream's buffer, and all later output to the stream."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def write_bytes(content: bytes) -> bool:
    """Write bytes to standard output at once; return False if its reader has closed it."""
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return True
    except BrokenPipeError:
        _discard(sys.stdout)
        return False


def printable(text: str) -> str:
    r"""Return a text in which control characters, except line feeds and tabs, are escaped.

    >>> printable("a\x1b[2Jb\u202e\n") == "a\\x1b[2Jb\\u202e\n"
    True
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


@contextlib.contextmanager
def safe_output() -> Iterator[None]:
    """Replace stdout and stderr by :class:`Output` while the block runs."""
    with contextlib.redirect_stdout(Output(sys.stdout, True)), contextlib.redirect_stderr(Output(sys.stderr, False)):
        yield


class Terminated(KeyboardInterrupt):
    """A signal that ends the process, such as SIGTERM, raised like Ctrl-C so that temporary files are removed."""

    def __init__(self, number: int):
        super().__init__(f"terminated by {signal.Signals(number).name}")
        self.signal = number


@contextlib.contextmanager
def ctrl_c_ignored() -> Iterator[None]:
    """Ignore Ctrl-C while the block runs, outside threads."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def run_process(main: Callable[[], int]) -> NoReturn:
    """Run ``main`` as the whole process: with signal handlers, and without a traceback for any number of Ctrl-C."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    def report(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)

    def repeat(ignored: Any) -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(ignored)
            return
        number = getattr(ignored.exc_value, "signal", signal.SIGINT)
        # to the main thread, so that it interrupts what the thread waits in; Windows has only raise_signal
        send, to = getattr(signal, "pthread_kill", None), threading.main_thread().ident
        threading.Timer(0.01, *((send, [to, number]) if send else (signal.raise_signal, [number]))).start()

    sys.unraisablehook = repeat  # a signal during a callback of the garbage collector, which cannot pass it on
    sys.excepthook = report  # for a Ctrl-C between the previous one and its report
    stopping = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is threading.main_thread():
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see the package root
            signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in stopping:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, terminate)
    keep_freed_memory()
    code = main()
    for number in (signal.SIGINT, *stopping):
        signal.signal(number, signal.SIG_IGN)  # the result is final; the interpreter is about to exit
    sys.exit(code)


def compute_in_calling_thread() -> None:
    """Let JAX compute on the CPU in the thread of the call: passing short calls to another thread takes longer.

    Has an effect only before the first computation.
    """
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
