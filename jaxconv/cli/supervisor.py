"""Supervisor of one of several processes that run one command: it connects to the others, and ends when one ends.

A child process, the worker, does the work. JAX aborts a process whose coordinator is lost, and a process that waits for
another one inside a collective does not handle signals; the supervisor does. It connects the processes in a star around
process 0 and uses only the standard library.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxconv.cli.channel import CLOSED, Channel
from jaxconv.cli.process import ctrl_c_ignored
from jaxconv.cli.worker import ENVIRONMENT

_TICK = 1.0  # seconds; limits are counted in ticks, so that the time of a suspended machine does not count
_SILENT = 10  # ticks without a message after which a process counts as lost
_SAVING = 8.0  # seconds in which the worker of process 0 can save its progress
_GRACE = 3  # ticks to wait for the cause of an error that another process may have caused


class Place(NamedTuple):
    """The place of this process among all: the address of process 0, the number of processes, and its own number."""

    host: str
    port: int
    processes: int
    process: int

    @property
    def address(self) -> str:
        """Return the address as it was given."""
        return f"{self.host}:{self.port}"


class Ended(Exception):
    """The end of the command: what to print, and the exit code.

    cause: the message to the others, or None if they know. source: the number of the process that caused it, or None
    for this one. resumable: whether the run can continue from its last checkpoint.
    """

    def __init__(
        self, message: str, code: int, cause: str | None = None, source: int | None = None, resumable: bool = True
    ):
        super().__init__(message)
        self.code, self.cause, self.source, self.resumable = code, cause, source, resumable


def supervise(place: Place, command: Sequence[str], version: str, wait: int) -> tuple[str, int]:
    """Run a command as a worker together with the other processes; return what to print, and the exit code.

    command: the program and its arguments. version: a text that must be equal in all processes. wait: seconds to wait.
    """
    group = _Group(place, command, version, wait)
    try:
        group.find()
        while True:
            group.step()
    except Ended as end:
        ending = end
    except KeyboardInterrupt as stop:
        number = getattr(stop, "signal", signal.SIGINT)
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        ending = Ended(f"stopped by {name}, with all processes", 128 + number, f"was stopped by {name}")
    with ctrl_c_ignored():
        group.end(ending)
    return f"{ending}{group.hint if ending.code and ending.resumable else ''}", ending.code


class _Group:
    """All processes, as seen by this one.

    peers: the channels to the others by their numbers: of process 0 to all, of others to process 0.
    finished: the processes whose workers are done. worker: None until all processes have joined.
    """

    def __init__(self, place: Place, command: Sequence[str], version: str, wait: int):
        self.place, self.command, self.version, self.wait = place, command, version, wait
        self.peers: dict[int, Channel] = {}
        self.finished: set[int] = set()
        self.hint, self.left = "", wait  # ticks for the others to start
        self.server: socket.socket | None = None
        self.worker: subprocess.Popen | None = None
        self.to_worker: Channel | None = None
        self.soft: list[Any] | None = None  # [ticks left, end] of an error that another process may have caused
        self.last_tick = time.monotonic()

    def _open(self) -> list[Any]:
        return [one for one in (*self.peers.values(), self.to_worker, self.server) if one is not None]

    # -- finding the others

    def find(self) -> None:
        """Listen for the others, or connect to process 0. Raises Ended."""
        place, left, reason = self.place, float(self.wait), "nothing listens there"
        if not place.process:
            try:
                self.server = socket.create_server((place.host, place.port), backlog=place.processes)
                self.server.settimeout(_TICK)
            except (OSError, OverflowError) as error:
                what = f"process 0 cannot listen at --coordinator {place.address}: {getattr(error, 'strerror', error)}"
                raise Ended(f"{what}; give an address of this machine with a free port", 2) from None
        while place.process and not self.peers:
            try:
                self.peers[0] = Channel(socket.create_connection((place.host, place.port), timeout=2.0))
            except socket.gaierror as error:
                raise Ended(f"--coordinator {place.address}: {error.strerror}", 2) from None
            except TimeoutError:
                left, reason = left - 2.0, "no answer"
            except (OSError, OverflowError) as error:
                left, reason = left - 0.5, getattr(error, "strerror", "") or str(error)
                time.sleep(0.5)
            if left <= 0:
                what = f"the coordinator {place.address} did not answer within {self.wait} seconds ({reason})"
                raise Ended(f"{what}; start process 0 there, with the same --coordinator", 1)
        for peer in self.peers.values():
            peer.send(join=place.process, processes=place.processes, version=self.version)

    def _accept(self, server: socket.socket) -> None:
        """Let another process join, and start if it is the last one. Raises Ended if it does not match this command."""
        try:
            channel = Channel(server.accept()[0])
        except TimeoutError:
            return
        hello = next(iter(channel.receive()), CLOSED)
        number, own = hello.get("join"), self.place.processes
        if type(number) is not int:  # not a process of this command, such as a port scan
            channel.socket.close()
            return
        reason = None
        if (count := hello.get("processes")) != own:
            reason = f"process 0 has --processes {own} and process {number} has {count}; give equal numbers"
        elif not 0 < number < own or number in self.peers:
            reason = f"--process {number} is taken; give each process its own number, from 0"
        elif (other := hello.get("version")) != self.version:
            reason = f"process 0 has {self.version} and process {number} has {other}; install equal versions"
        if reason is not None:
            channel.send(stop=reason)
            channel.close()
            raise Ended(reason, 2, f"rejected process {number}: {reason}")
        self.peers[number] = channel
        if len(self.peers) == own - 1:
            server.close()
            self.server = None
            with socket.create_server((self.place.host, 0)) as free:
                coordinator = f"{self.place.host}:{free.getsockname()[1]}"
            for peer in self.peers.values():
                peer.send(start=coordinator)
            self._start(coordinator)

    # -- working

    def _start(self, coordinator: str) -> None:
        """Start the worker."""
        ours, theirs = socket.socketpair()
        facts = {"channel": theirs.fileno(), "coordinator": coordinator, **self.place._asdict()}
        self.worker = subprocess.Popen(
            self.command,
            env=os.environ | {ENVIRONMENT: json.dumps(facts)},
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # a Ctrl-C of the terminal is only for this process
        )
        theirs.close()
        self.to_worker = Channel(ours)

    def step(self) -> None:
        """Wait for messages, for at most one tick, and answer them."""
        with selectors.DefaultSelector() as selector:
            for source in self._open():
                selector.register(source, selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select(_TICK)]
        for number, peer in list(self.peers.items()):
            if peer in ready:
                for message in peer.receive():
                    self._hear(number, message)
        if self.server is not None and self.server in ready:
            self._accept(self.server)
        if self.to_worker is not None and self.to_worker in ready:
            for message in self.to_worker.receive():
                self._hear_worker(message)
        if time.monotonic() - self.last_tick >= _TICK:
            self._tick()

    def _tick(self) -> None:
        self.last_tick = time.monotonic()
        self.left -= self.server is not None
        if self.left <= 0:
            names = ", ".join(str(n) for n in range(1, self.place.processes) if n not in self.peers)
            what = f"of {self.place.processes} processes, these did not start within {self.wait} seconds: {names}"
            raise Ended(what, 1, f"waited {self.wait} seconds for process {names}")
        for number, peer in self.peers.items():
            peer.send(alive=True)
            peer.silent += 1
            if peer.silent > _SILENT:
                raise Ended(f"process {number} does not answer; all processes end", 1, f"lost process {number}")
        if self.soft is not None:
            self.soft[0] -= 1
            if self.soft[0] <= 0:
                raise self.soft[1]

    def _hear(self, number: int, message: dict[str, Any]) -> None:
        """Answer a message of another process."""
        if message is CLOSED:
            if number in self.finished:
                self.peers.pop(number).close()
                return
            if self.worker is None and self.place.process:
                raise Ended(f"the coordinator {self.place.address} ended, or is not process 0 of this command", 1)
            if self.worker is None:
                raise Ended(f"process {number} ended before all had started", 1)
            cause = f"process {number} has ended without a message: it was killed, or its machine failed"
            raise Ended(f"{cause}; all processes end", 1, f"lost process {number}")
        if "stop" in message:
            raise Ended(str(message["stop"]), 1)
        if "start" in message and self.worker is None:
            self._start(str(message["start"]))
        if "failed" in message:
            raise Ended(f"process {number} {message['failed']}; all processes end", 1, str(message["failed"]), number)
        if "finished" in message:
            self._finish(number)
        if "all finished" in message:
            raise Ended("", 0)

    def _hear_worker(self, message: dict[str, Any]) -> None:
        """Answer a message of the worker."""
        assert self.worker is not None
        if "folder" in message:
            self.hint = f"; resume with --resume {message['folder']} instead of the config, in each process"
        elif "ended" in message and message["ended"] == 0:
            self._finish(self.place.process)
        elif "ended" in message:
            text = str(message["message"])
            end = Ended(text, int(message["ended"]), f"failed: {text}", resumable=False)
            self._fail(end, soft=bool(message.get("soft")))
        elif message is CLOSED and self.place.process not in self.finished and self.soft is None:
            code = self.worker.wait()
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            self._fail(Ended(f"the worker was ended {how}", 1, f"was ended {how}"), soft=code == -signal.SIGABRT)
        if message is CLOSED and self.to_worker is not None:
            self.to_worker.close()
            self.to_worker = None

    def _finish(self, number: int) -> None:
        self.finished.add(number)
        if self.place.process:
            self.peers[0].send(finished=True)
        elif len(self.finished) == self.place.processes:
            raise Ended("", 0)

    def _fail(self, end: Ended, soft: bool) -> None:
        """End all processes; if another one may be the cause, only after it had time to report it."""
        if not soft:
            raise end
        if self.soft is None:
            self.soft = [_GRACE if self.place.process else _GRACE + 2, end]

    # -- ending

    def end(self, ending: Ended) -> None:
        """Tell the others, end the worker, and close all."""
        for number, peer in self.peers.items():
            if ending.code == 0:
                peer.send(**{"all finished": True})
            elif ending.cause is not None and self.place.process:
                peer.send(failed=ending.cause)
            elif ending.cause is not None and number != ending.source:
                peer.send(stop=f"process {ending.source or 0} {ending.cause}; all processes end")
        if self.worker is not None:
            if ending.code:
                with contextlib.suppress(ProcessLookupError):
                    self.worker.terminate()
            try:
                self.worker.wait(timeout=3 if ending.code and self.place.process else _SAVING)
            except subprocess.TimeoutExpired:
                self.worker.kill()
                self.worker.wait()
        for one in self._open():
            one.close()
