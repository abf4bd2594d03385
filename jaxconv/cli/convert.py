"""``jaxconv convert``: write a model file in another format."""

import argparse

NAME, SUMMARY = "convert", "write a model file of any Keras version for Keras 3"
TEXT = """\
Read a model file of any Keras version and write it as .keras, for Keras 3, or only its weights as .safetensors. Print
what was unusual in the old file, such as omitted options and renamed arguments. No code stored in the old file is run.

Examples
  jaxconv convert old.h5 new.keras
  jaxconv convert old.h5 weights.safetensors
  jaxconv convert model.json weights.h5 new.keras             a model in JSON, and the file of its weights
  jaxconv convert old.h5 features.keras --until flatten       the layers up to this one
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("old", metavar="OLD", help="a run folder, or a model file")
    parser.add_argument("weights", metavar="WEIGHTS", nargs="?", help="for a model in JSON: the file of its weights")
    parser.add_argument("new", metavar="NEW", help="the file to write: NAME.keras or NAME.safetensors")
    parser.add_argument("--until", metavar="LAYER", help="omit the layers after this one")
    parser.add_argument("--force", action="store_true", help="overwrite NEW if it exists")


def run(options: argparse.Namespace) -> None:
    """Convert a file, and print what was written."""
    from jaxconv.app.run_folder import model_file
    from jaxconv.files.conversion import convert

    more = {"weights": options.weights, "until": options.until, "force": options.force}
    for line in convert(model_file(options.old), options.new, **more):
        print(line)
