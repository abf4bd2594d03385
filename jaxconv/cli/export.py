"""``jaxconv export``: a model as one program that runs without its layers."""

import argparse
from pathlib import Path

NAME, SUMMARY = "export", "write a model as one program that runs without its layers"
TEXT = """\
Write a model with its weights as StableHLO: one file that runs without its layers, for any batch size, on each of the
platforms. 'jaxconv predict' and jaxconv.load_exported run it; without jaxconv, jax.export reads the array 'program' in
the file.

Examples
  jaxconv export model.keras model.jaxexport
  jaxconv export runs/gunpoint_fcn model.jaxexport --optimize --platforms cpu,cuda
  jaxconv export headless.h5 model.jaxexport --input-shape 48,48,1
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="a run folder, or a model file")
    parser.add_argument("out", metavar="OUT", help="the file to write; .jaxexport is the usual suffix")
    parser.add_argument("--optimize", action="store_true", help="fold normalizations, omit what only training needs")
    parser.add_argument("--platforms", default="cpu,cuda,tpu", metavar="P,P", help="(default: cpu,cuda,tpu)")
    parser.add_argument("--input-shape", metavar="N,N", help="of one sample, if the file does not contain it")
    parser.add_argument("--force", action="store_true", help="overwrite OUT if it exists")


def run(options: argparse.Namespace) -> None:
    """Export a model, and print what was written."""
    from jaxconv.app.model_source import parse_sizes
    from jaxconv.app.run_folder import model_file
    from jaxconv.files.conversion import refuse_to_replace
    from jaxconv.files.loading import read_model
    from jaxconv.serving import export, optimize

    file = model_file(options.model)
    refuse_to_replace(file, options.out, options.force)
    read = read_model(file)
    layer, params, shape = read.layer, read.params, read.input_shape
    if options.input_shape is not None:
        shape = (None, *parse_sizes("--input-shape", options.input_shape))
    if shape is None:
        raise ValueError(
            f"{file} does not contain the shape of its input; give it without batch: --input-shape 48,48,1"
        )
    if options.optimize:
        layer, params = optimize(layer, params)
    platforms = [name.strip() for name in options.platforms.split(",") if name.strip()]
    export(layer.apply_fn, params, options.out, shape, platforms=platforms)
    size = Path(options.out).stat().st_size
    print(f"{file} for {', '.join(platforms)} in {options.out}, {size / 1e6:.2f} MB")
