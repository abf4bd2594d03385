"""``jaxconv convert``: what it takes, and where it goes."""

import argparse

NAME, SUMMARY = "convert", "write a model file anew, for Keras 3 or as params alone"
TEXT = """\
Read a model file of any Keras (1 to 3; .h5, .hdf5, .keras), or a run folder, and write it anew: as a .keras file, which
Keras 3 opens and which computes the same, or as a .safetensors file of the params alone. Say what was unusual in the
old file: options left out, things renamed. Nothing stored in the old file is run.

Examples
  jaxconv convert old.h5 new.keras
  jaxconv convert old.h5 weights.safetensors
  jaxconv convert old.h5 features.keras --until flatten       the layers up to this one
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("old", metavar="OLD", help="a run folder, or a model file")
    parser.add_argument("new", metavar="NEW", help="the file to write: NAME.keras or NAME.safetensors")
    parser.add_argument("--until", metavar="LAYER", help="leave out what comes after this layer")
    parser.add_argument("--force", action="store_true", help="write over NEW where it is there already")


def run(options: argparse.Namespace) -> None:
    """Convert."""
    from jaxconv.app.inference import model_file
    from jaxconv.files.conversion import convert

    for line in convert(model_file(options.old), options.new, until=options.until, force=options.force):
        print(line)
