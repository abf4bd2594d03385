"""``jaxconv evaluate``: the loss and metrics of a trained model."""

import argparse

from jaxconv.cli.device_options import add_options, read_sharding

NAME, SUMMARY = "evaluate", "print the metrics of a trained model"
TEXT = """\
Print loss and metrics of a trained model on its test set, or on your own data.

Examples
  jaxconv evaluate runs/gunpoint_fcn
  jaxconv evaluate runs/gunpoint_fcn --data mine.npz          arrays x_test and y_test, or x and y
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="a run folder, or a model file")
    parser.add_argument("--data", metavar="FILE", help="an .npz file, or a config whose [data] is used")
    add_options(parser)


def run(options: argparse.Namespace) -> None:
    """Evaluate a model and print its metrics."""
    from jaxconv.app.scoring import score

    print(score(options.model, options.data, read_sharding(options)))
