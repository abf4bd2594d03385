"""``jaxconv info``: the layers of a model, and the result of a run."""

import argparse

from jaxconv.cli.stream_options import add_options, read_options

NAME, SUMMARY = "info", "print the layers of a model, and the result of a run"
TEXT = """\
Print a model layer by layer: output shapes, parameters, multiply-adds for one example, and the receptive field: how
many steps of each input axis affect a step of the output ("-" if all do, or if it is unknown). For a run, also its
result; for a file, also the version of Keras that wrote it, and what is unusual in the file.
With --stream, print what each layer adds to a stream of the model: block, flush and receptive field in steps of the
input, delay in steps of the layer's output, state bytes for one row, multiply-adds for one block of the whole.
With --devices, print how many bytes devices exchange for each layer, forward and with the gradients of all weights,
if the input is sharded along an axis: the programs for that many CPU devices are compiled, not run.

Examples
  jaxconv info model.h5
  jaxconv info configs/gunpoint_fcn.toml
  jaxconv info runs/gunpoint_fcn
  jaxconv info headless.h5 --input-shape 48,48,1
  jaxconv info classifier.keras --stream --window 100
  jaxconv info unet.keras --devices 8 --shard depth --batch 1
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="a run folder, a model file, or a config")
    parser.add_argument("--input-shape", action="append", metavar="N,N", help="of a sample; repeat it for more inputs")
    parser.add_argument("--stream", action="store_true", help="print the cost of each layer in a stream")
    add_options(parser)
    parser.add_argument("--devices", type=int, metavar="N", help="print what N devices exchange for each layer")
    parser.add_argument("--shard", metavar="AXIS", help="batch (default), depth, rows, columns, time, or a number")
    parser.add_argument("--batch", type=int, metavar="N", help="examples on all devices (default: the config's, or 32)")


def run(options: argparse.Namespace) -> None:
    """Print an overview of a model."""
    from jaxconv.app.overview import overview
    from jaxconv.app.sharding import host_devices

    streamed, sharded = read_options(options, options.stream), None
    if options.devices is None and (options.shard, options.batch) != (None, None):
        raise ValueError(f"--{'batch' if options.shard is None else 'shard'} is for several devices; give --devices N")
    if options.devices is not None:
        if options.stream:
            raise ValueError("--stream and --devices print two tables; give one of them")
        devices = host_devices(options.devices)  # before JAX starts
        sharded = {"devices": devices, "shard": options.shard or "batch", "batch": options.batch}
    print(overview(options.model, options.input_shape, streamed, sharded))
