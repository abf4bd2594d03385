"""``jaxconv export``: a model as one program that runs without its layers."""

import argparse
from pathlib import Path

from jaxconv.cli.stream_options import add_options, read_options

NAME, SUMMARY = "export", "write a model as one program that runs without its layers"
TEXT = """\
Write a model with its weights as StableHLO: one file that runs without its layers, for any batch size, on each of the
platforms. 'jaxconv predict' and jaxconv.load_exported run it; without jaxconv, jax.export reads the array 'program' in
the file. With --stream, the program is one step of a stream of the model, with the state as an argument and a result;
jaxconv.load_exported returns it as init(batch_size) and step(state, x, mask=None, reset=None, active=None).

Examples
  jaxconv export model.keras model.jaxexport
  jaxconv export runs/gunpoint_fcn model.jaxexport --optimize --platforms cpu,cuda
  jaxconv export model.keras step.jaxexport --stream --chunk 160
  jaxconv export headless.h5 model.jaxexport --input-shape 48,48,1
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="a run folder, or a model file")
    parser.add_argument("out", metavar="OUT", help="the file to write; .jaxexport is the usual suffix")
    parser.add_argument("--optimize", action="store_true", help="fold normalizations, remove layers for training")
    parser.add_argument("--platforms", default="cpu,cuda,tpu", metavar="P,P", help="(default: cpu,cuda,tpu)")
    parser.add_argument("--input-shape", action="append", metavar="N,N", help="of a sample; repeat it for more inputs")
    parser.add_argument("--stream", action="store_true", help="write one step of a stream, with its state")
    parser.add_argument("--chunk", type=int, metavar="N", help="for a stream, steps in one call (default: the block)")
    add_options(parser)
    parser.add_argument("--force", action="store_true", help="overwrite OUT if it exists")


def run(options: argparse.Namespace) -> None:
    """Export a model, and print what was written."""
    from jaxconv.app.model_source import known_shape
    from jaxconv.app.run_folder import model_file
    from jaxconv.files.conversion import refuse_to_replace
    from jaxconv.files.loading import read_model
    from jaxconv.serving import export, optimize
    from jaxconv.streaming import stream

    arguments = read_options(options, options.stream)
    file = model_file(options.model)
    refuse_to_replace(file, options.out, options.force)
    read = read_model(file)
    layer, params = read.layer, read.params
    shape = known_shape(file, read, options.input_shape)
    if options.optimize:
        layer, params = optimize(layer, params)
    platforms = [name.strip() for name in options.platforms.split(",") if name.strip()]
    if arguments is None:
        export(layer.apply_fn, params, options.out, shape, platforms=platforms)
    else:
        running = stream(layer, shape, **arguments)
        export(running, params, options.out, chunk=options.chunk, platforms=platforms)
    size = Path(options.out).stat().st_size
    what = str(file) if arguments is None else f"a step of {file}"
    print(f"{what} for {', '.join(platforms)} in {options.out}, {size / 1e6:.2f} MB")
