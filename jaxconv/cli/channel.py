"""Messages between processes over a socket: one JSON object per line."""

import contextlib
import json
import socket
from typing import Any

_LONGEST = 2**16  # bytes of a message
CLOSED = {"closed": True}  # the last message of a channel whose other end is closed


class Channel:
    """One end of a connection.

    silent: ticks since the last message, which the owner of the channel counts.
    """

    def __init__(self, connection: socket.socket):
        self.socket, self.silent, self._rest = connection, 0, b""
        connection.setblocking(True)
        connection.settimeout(5.0)

    def fileno(self) -> int:
        """Return the number of the socket, for ``select``."""
        return self.socket.fileno()

    def send(self, **message: Any) -> None:
        """Send a message. If the other end is closed, nothing happens; ``receive`` reports it."""
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]]:
        """Wait for messages and return those that have arrived; the last one of all is ``CLOSED``.

        Any other content closes the channel.
        """
        self.silent = 0
        try:
            new = self.socket.recv(_LONGEST)
        except OSError:
            new = b""
        *lines, self._rest = (self._rest + new).split(b"\n")
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError:
            return [CLOSED]
        if not new or len(self._rest) > _LONGEST or not all(isinstance(message, dict) for message in messages):
            messages.append(CLOSED)
        return messages

    def close(self) -> None:
        """Close the connection after all sent messages have arrived, or after some seconds."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
            self.socket.settimeout(2.0)
            while self.socket.recv(_LONGEST):
                pass
        self.socket.close()
