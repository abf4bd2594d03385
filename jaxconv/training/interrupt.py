"""Ctrl-C, SIGTERM and SIGHUP as a request to stop, which a loop reads when it can stop safely."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class StopRequest:
    """A flag that is true after a request to stop; ``signal`` is the number of the signal, or None."""

    signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextlib.contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Inside the block, let the first Ctrl-C (or SIGTERM, or SIGHUP) set a flag, and the second one raise.

    The previous handlers are restored at the end. An ignored signal stays ignored. Outside the main thread, where
    Python does not allow setting handlers, nothing changes and the flag is never set.

    >>> with stop_on_signal() as stop:
    ...     signal.raise_signal(signal.SIGINT)
    ...     bool(stop)
    True
    """
    stop = StopRequest()

    def request(number: int, frame: FrameType | None) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.signal = number

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
