"""``jaxconv explain``: a picture of what in an input speaks for a class."""

import argparse

NAME, SUMMARY = "explain", "draw what in an input speaks for a class"
TEXT = """\
Attribute a score of a trained model to one example of an input, and draw it: blue speaks for the target, orange against
it. Methods: gradient, input_x_gradient, smooth, integrated, guided, deconv, deeplift. The picture appears when it is
complete.

Examples
  jaxconv explain runs/gunpoint_fcn x.npy --target 1 --out picture.png
  jaxconv explain model.keras x.npy --example 7 --method deeplift --baseline 0.5 --out picture.png
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="a run folder, or a model file, with one input")
    parser.add_argument("x", metavar="X.npy", help="the input, one example per row")
    parser.add_argument("--out", required=True, metavar="PICTURE", help="the picture: .png, .pdf or .svg")
    parser.add_argument("--target", type=int, metavar="K", help="the class (default: that of the highest score)")
    parser.add_argument("--method", default="integrated", metavar="NAME", help="(default: integrated)")
    parser.add_argument("--baseline", type=float, default=0.0, metavar="V", help="of integrated, deeplift (default: 0)")
    parser.add_argument("--example", type=int, default=0, metavar="N", help="the row of X.npy (default: 0)")
    parser.add_argument("--force", action="store_true", help="overwrite PICTURE if it exists")


def run(options: argparse.Namespace) -> None:
    """Explain one example, and print what was drawn."""
    from pathlib import Path

    import jax

    from jaxconv.app.array_files import map_npy
    from jaxconv.app.prediction import check_input
    from jaxconv.app.run_folder import model_file
    from jaxconv.app.schema import ConfigError
    from jaxconv.files.atomic import replacing
    from jaxconv.files.conversion import refuse_to_replace
    from jaxconv.files.loading import read_model
    from jaxconv.inspect import attribute, plot

    suffix = Path(options.out).suffix
    if suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"--out {options.out}: the name of a picture ends in .png, .pdf or .svg")
    file = model_file(options.model)
    refuse_to_replace(file, options.out, options.force)
    refuse_to_replace(options.x, options.out, options.force)
    read, rows = read_model(file), map_npy(options.x)
    if rows.ndim < 2 or not 0 <= options.example < len(rows):
        raise ConfigError(f"--example {options.example}: {options.x} has shape {rows.shape}; examples count from 0")
    apply_fn, x = read.layer.apply_fn, rows[options.example : options.example + 1]
    if rows.dtype.kind not in "fiu":
        raise ConfigError(f"{options.x} has dtype {rows.dtype}; real numbers are expected")
    check_input(str(file), apply_fn, read.params, x, read.input_shape)
    values, _ = attribute(
        lambda x: apply_fn(read.params, x),
        x.astype("float32"),
        options.target,
        method=options.method,
        baseline=options.baseline,
        key=jax.random.key(0),
    )
    figure = plot.heat(values[0], x[0])
    with replacing(options.out) as handle:
        figure.savefig(handle, format=suffix[1:])
    print(f"example {options.example} of {options.x}, explained by {options.method}, in {options.out}")
