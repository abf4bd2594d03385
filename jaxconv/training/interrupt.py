"""Ctrl-C and SIGTERM as a wish that a loop grants when it suits it. Knows nothing of training."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Stop:
    """Whether the process was asked to stop: ``signal`` is the number of the signal that asked, or None."""

    signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Let the first Ctrl-C (or SIGTERM) only set a flag, and the second one stop at once, as long as the block runs.

    The handlers that were there before come back at the end. A signal that was ignored stays ignored. Outside the
    main thread, where Python lets nobody set handlers, nothing changes and the flag stays down.

    >>> with stop_on_signal() as stop:
    ...     signal.raise_signal(signal.SIGINT)
    ...     bool(stop)
    True
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.signal = number

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
