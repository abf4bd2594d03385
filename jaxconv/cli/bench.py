"""``jaxconv bench``: speed compared with other libraries."""

import argparse
from pathlib import Path

NAME, SUMMARY = "bench", "measure speed compared with other libraries"
TEXT = """\
Measure the speed of jax.lax, PyTorch, Flax, Equinox, Haiku and Keras on JAX, if they are installed, and of jaxconv,
in turns in one process. Print a table of medians and the geometric means of the ratios; write bench.json and
bench.png. FILTER is a part of a name, or a family of convolutions. Ctrl-C keeps the measurements.
With --stream, each library runs a network step by step, one step in a call, which computes in the calling thread:
jax_cpu_enable_async_dispatch is off.
For trained models, each library gets the same weights and input, and is measured if the outputs agree.

Examples
  jaxconv bench                                               single convolutions: output; output and both gradients
  jaxconv bench conv3d --accuracy                             some of them, and their errors compared with float64
  jaxconv bench --cases mine.toml --only lax,jaxconv          your own list of shapes
  jaxconv bench --models                                      whole networks: inference and training step
  jaxconv bench resnet18 --models --only torch,jaxconv --seconds 5
  jaxconv bench --accelerate                                  other libraries with and without jaxconv.accelerate()
  jaxconv bench --trained model.keras old.h5 --batch 1,32     inference of trained models in Keras, PyTorch and jaxconv
  jaxconv bench --stream                                      one step of a network, and of recomputing its window
  jaxconv bench --models --list                               the names of the measurements
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("filter", nargs="?", default="", metavar="FILTER", help="a part of a name, or a family")
    parser.add_argument("--models", action="store_true", help="whole networks instead of single convolutions")
    parser.add_argument("--stream", action="store_true", help="single steps of networks that run step by step")
    parser.add_argument("--accelerate", action="store_true", help="the networks of other libraries, with and without")
    parser.add_argument("--trained", nargs="+", default=[], metavar="FILE", help="trained models instead: model files")
    parser.add_argument("--batch", metavar="N,N", help="batch sizes for them (default: 1,32)")
    parser.add_argument("--list", action="store_true", help="print the names of the measurements, and exit")
    parser.add_argument("--cases", metavar="FILE", help="a TOML list of convolutions (default: the built-in one)")
    parser.add_argument("--only", metavar="NAMES", help="some of the libraries, such as lax,torch,jaxconv")
    parser.add_argument(
        "--seconds", type=float, default=1.0, metavar="S", help="per measurement (default: 1; 0: the fewest rounds)"
    )
    parser.add_argument("--accuracy", action="store_true", help="compare convolutions with float64, too; slow")
    parser.add_argument("--out", metavar="DIR", help="the folder of the results (default: a new one, runs/bench...)")
    parser.add_argument("--force", action="store_true", help="overwrite results in DIR")


def run(options: argparse.Namespace) -> None:
    """Measure, and print a table."""
    from jaxconv.app.run_folder import model_file
    from jaxconv.bench.run import CHART, JSON, bench
    from jaxconv.cli.process import compute_in_calling_thread

    if options.stream:
        compute_in_calling_thread()
    for name in (JSON, CHART) if options.out and not options.force else ():
        if (Path(options.out) / name).exists():
            raise ValueError(f"{options.out} has a {name} already; give another folder, or --force to overwrite it")
    bench(
        options.filter,
        models=options.models,
        stream=options.stream,
        accelerate=options.accelerate,
        files=[str(model_file(file)) for file in options.trained],
        batch=options.batch,
        case_file=options.cases,
        only=options.only,
        seconds=options.seconds,
        accuracy=options.accuracy,
        out=options.out,
        names_only=options.list,
    )
