"""``jaxconv tune``: measure the fastest way to compute a model's convolutions on this machine."""

import argparse

NAME, SUMMARY = "tune", "measure how to compute a model's convolutions on this machine"
TEXT = """\
Measure every way to compute the convolutions of MODEL, and their gradients, on this machine, and store the fastest.
Every later process uses it for convolutions of these shapes. The results are saved as they are found, in the user's
cache folder, one file for each device and version of JAX; JAXCONV_TUNED=FILE names another one, and JAXCONV_TUNED=
turns this off.

Examples
  jaxconv tune configs/gunpoint_fcn.toml                      for the batch size of its config
  jaxconv tune model.keras --batch 1 --inference              without gradients
  jaxconv tune model.keras --input-shape 128,16 --forget      forget everything on this device, and measure again
  jaxconv tune --forget

With --table FILE.json, nothing is stored: random convolutions with the sizes of networks are computed in every way,
and the report shows how much slower the table's choices are than the fastest (the geometric mean, the 95th percentile,
and the worst). The times are kept in FILE, and the next call continues or reports again.

  jaxconv tune --table times.json --shapes 100 --limit 600
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a run folder, a model file, or a config")
    parser.add_argument("--batch", type=int, metavar="N", help="batch size (default: that of the config, or 32)")
    parser.add_argument("--input-shape", action="append", metavar="N,N", help="as in jaxconv info, such as 128,16")
    parser.add_argument("--dtype", default="float32", help="of the input: int32 for an Embedding (default: float32)")
    parser.add_argument("--inference", action="store_true", help="omit the gradients")
    parser.add_argument("--seconds", type=float, default=0.2, metavar="S", help="per measurement (default: 0.2)")
    parser.add_argument("--forget", action="store_true", help="first forget the measurements on this device")
    parser.add_argument("--table", metavar="FILE.json", help="compare the table of lowerings with the fastest choices")
    parser.add_argument("--shapes", type=int, default=100, metavar="N", help="of random convolutions (default: 100)")
    parser.add_argument("--seed", type=int, default=2, metavar="S", help="of random convolutions (default: 2)")
    parser.add_argument("--limit", type=float, default=float("inf"), metavar="S", help="stop --table after S seconds")


def run(options: argparse.Namespace) -> None:
    """Measure, and print a table."""
    import jax

    from jaxconv.app.model_source import read_model_source, shape_option
    from jaxconv.kernels import tuning_cache
    from jaxconv.tuning import regret, tune

    if options.model is None and not options.forget and options.table is None:
        raise ValueError("jaxconv tune needs a run folder, a model file or a config (or --forget, --table)")
    if options.model is not None and options.table is not None:
        raise ValueError("jaxconv tune: a model and --table; expected one of them, --table measures random shapes")
    if options.shapes < 1:
        raise ValueError(f"--shapes {options.shapes}: expected at least 1")
    if options.batch is not None and options.batch < 1:
        raise ValueError(f"--batch {options.batch}: expected at least 1")
    if not options.seconds >= 0:
        raise ValueError(f"--seconds {options.seconds}: expected 0 or more")
    if options.forget:
        platform = jax.default_backend()
        file = tuning_cache.path(platform)
        print(f"{tuning_cache.forget(platform) or 'no'} winners forgotten: {file}")
    if options.table is not None:
        print(regret.measure(options.table, options.seed, options.shapes, options.seconds, options.limit))
    if options.model is None:
        return
    source = read_model_source(options.model, options.input_shape)
    shapes = jax.tree.leaves(source.input_shape, is_leaf=lambda shape: isinstance(shape, tuple))
    if not shapes or any(None in shape[1:] for shape in shapes):
        example = shape_option(source.input_shape)
        raise ValueError(f"{options.model} does not contain the whole shape of its input; give it: {example}")
    batch = options.batch or (32 if source.config is None else source.config.train.batch_size)
    train, dtype = not options.inference, options.dtype
    print(tune(source.layer, source.input_shape, train=train, batch=batch, dtype=dtype, seconds=options.seconds))
