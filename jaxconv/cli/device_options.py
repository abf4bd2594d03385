"""Options for several devices and processes, shared by several commands."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxconv.cli.supervisor import Place, supervise
from jaxconv.cli.worker import Worker


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for several devices and processes."""
    parser.add_argument("--devices", metavar="N", help="devices to split each batch over: a number, or all")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="for several processes: a port of process 0")
    parser.add_argument("--processes", type=int, metavar="N", help="the number of processes")
    parser.add_argument("--process", type=int, metavar="I", help="the number of this one, from 0")
    parser.add_argument("--wait", type=int, default=120, metavar="N", help="seconds to wait for others (default: 120)")


def read_place(options: argparse.Namespace) -> Place | None:
    """Return the place of this process among several, or None for a single one. Raises ValueError."""
    names = ("coordinator", "processes", "process")
    given = [name for name in names if getattr(options, name, None) is not None]
    if not given:
        return None
    for name in names:
        if name not in given:
            needed = "--coordinator HOST:PORT, --processes N and --process I"
            raise ValueError(f"--{given[0]} without --{name}; several processes need {needed}")
    host, colon, port = options.coordinator.rpartition(":")
    if not host or not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"--coordinator {options.coordinator}: expected HOST:PORT, such as 10.0.0.1:1234")
    if options.processes < 2:
        raise ValueError(f"--processes {options.processes}: expected at least 2; omit it for a single process")
    if not 0 <= options.process < options.processes:
        raise ValueError(f"--process {options.process} of {options.processes}; expected 0 to {options.processes - 1}")
    if options.wait < 1:
        raise ValueError(f"--wait {options.wait}: expected at least 1")
    if options.devices not in (None, "all"):
        raise ValueError(f"--devices {options.devices} with --processes; expected all (the devices of all processes)")
    return Place(host, int(port), options.processes, options.process)


def lead(place: Place, options: argparse.Namespace, arguments: Sequence[str]) -> tuple[str, int]:
    """Run the command together with the other processes; return what to print, and the exit code."""
    import jax

    from jaxconv.version import __version__

    version = f"{options.command} of jaxconv {__version__} with JAX {jax.__version__}"
    message, code = supervise(place, [sys.executable, "-m", "jaxconv", *arguments], version, options.wait)
    if code and sys.stderr.isatty():
        print(file=sys.stderr)  # below an unfinished bar
    return message, code


def read_sharding(options: argparse.Namespace) -> Any:
    """Return the argument ``sharding`` of ``fit``, or None for one device. Raises ValueError if there are too few."""
    if options.devices is None and options.processes is None:
        return None
    if options.devices in (None, "all"):
        return "data"
    if not options.devices.isdecimal() or not int(options.devices):
        raise ValueError(f"--devices {options.devices}: expected a positive number, or all")
    import jax
    import numpy as np
    from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

    count, devices = int(options.devices), jax.devices()
    if count > len(devices):
        flag = f"XLA_FLAGS=--xla_force_host_platform_device_count={count}"
        hint = f"; {flag} splits the CPU into {count}" if devices[0].platform == "cpu" else ""
        raise ValueError(f"--devices {count}: there are {len(devices)}; expected at most that many{hint}")
    mesh = Mesh(np.asarray(devices[:count]), ("data",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("data"))


def announce(folder: Path) -> None:
    """Tell the supervisor, if there is one, where the progress is saved."""
    if Worker.current is not None:
        Worker.current.tell_folder(folder)
