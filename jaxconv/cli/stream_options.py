"""Options of ``jaxconv.stream``, shared by several commands."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``jaxconv.stream``."""
    parser.add_argument("--axis", type=int, metavar="N", help="the time axis, the batch being 0 (default: 1)")
    parser.add_argument("--pooling", metavar="cumulative", help="global pooling reads all steps until now")
    parser.add_argument("--window", type=int, metavar="N", help="layers that read all steps read the last N")


def read_options(options: argparse.Namespace, wanted: bool) -> dict | None:
    """Return the arguments of ``jaxconv.stream``, or None if not ``wanted``. Raises ValueError for unused ones."""
    given = {name: getattr(options, name, None) for name in ("axis", "pooling", "window", "chunk")}
    given = {name: value for name, value in given.items() if value is not None}
    if given and not wanted:
        raise ValueError(f"--{next(iter(given))} is for a stream; give --stream, too")
    given.pop("chunk", None)
    return given if wanted else None
