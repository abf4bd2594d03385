"""``jaxconv info``: the layers of a model, and the result of a run."""

import argparse

NAME, SUMMARY = "info", "print the layers of a model, and the result of a run"
TEXT = """\
Print a model layer by layer: output shapes, parameters, multiply-adds for one example, and the receptive field: how
many steps of each input axis affect a step of the output ("-" if all do, or if it is unknown). For a run, also its
result; for a file, also the version of Keras that wrote it, and what is unusual in it.

Examples
  jaxconv info model.h5
  jaxconv info configs/gunpoint_fcn.toml
  jaxconv info runs/gunpoint_fcn
  jaxconv info headless.h5 --input-shape 48,48,1
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="a run folder, a model file, or a config")
    parser.add_argument("--input-shape", metavar="N,N", help="of one sample (default: that of the data or the file)")


def run(options: argparse.Namespace) -> None:
    """Print an overview of a model."""
    from jaxconv.app.model_source import parse_sizes
    from jaxconv.app.overview import overview

    shape = None if options.input_shape is None else (None, *parse_sizes("--input-shape", options.input_shape))
    print(overview(options.model, shape))
