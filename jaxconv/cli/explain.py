"""``jaxconv explain``: draw how the parts of an input contribute to a class."""

import argparse

NAME, SUMMARY = "explain", "draw how the parts of an input contribute to a class"
TEXT = """\
Attribute a score of a trained model to one example of an input, and draw it: blue contributes to the target, orange
against it. Methods: gradient, input_x_gradient, smooth, integrated, guided, deconv, deeplift. The target is a class:
its index, or its label in the training data (an integer is always an index). If an example's output has several axes,
give an index for each, with commas between them. For a model with several inputs, give one .npy file for each, in their
order, or one .npz file with an array for each name; they are drawn one below the other. The picture is written only
when it is complete.

Examples
  jaxconv explain runs/gunpoint_fcn x.npy --target 1 --out picture.png
  jaxconv explain runs/mine x.npy --target wave --out picture.png
  jaxconv explain model.keras x.npy --example 7 --method deeplift --baseline 0.5 --out picture.png
  jaxconv explain two_inputs.keras left.npy right.npy --out picture.png
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="a run folder, or a model file")
    parser.add_argument("x", nargs="+", metavar="X.npy", help="the input, one example per row")
    parser.add_argument("--out", required=True, metavar="PICTURE", help="the picture: .png, .pdf or .svg")
    parser.add_argument("--target", metavar="K", help="the class, or 3,1: step 3, class 1 (default: the highest score)")
    parser.add_argument("--method", default="integrated", metavar="NAME", help="(default: integrated)")
    parser.add_argument("--baseline", type=float, metavar="V", help="of integrated, deeplift (default: 0)")
    parser.add_argument("--example", type=int, default=0, metavar="N", help="the row of X.npy (default: 0)")
    parser.add_argument("--force", action="store_true", help="overwrite PICTURE if it exists")


def run(options: argparse.Namespace) -> None:
    """Explain one example, and print what was drawn."""
    from pathlib import Path

    import jax
    import numpy as np
    from jax.tree_util import Partial

    from jaxconv.app.explanation import pick_target
    from jaxconv.app.prediction import check_input, load_predictor, read_inputs
    from jaxconv.app.run_folder import model_file
    from jaxconv.app.schema import ConfigError
    from jaxconv.files.atomic import replacing
    from jaxconv.files.conversion import refuse_to_replace
    from jaxconv.inspect.attribution import METHODS, attribute
    from jaxconv.inspect.plot.heat import heats
    from jaxconv.serving.artifact import is_exported

    suffix, named = Path(options.out).suffix, " ".join(options.x)
    if suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"--out {options.out}: expected a name that ends in .png, .pdf or .svg")
    file = model_file(options.model)
    for given in (file, *options.x):
        refuse_to_replace(given, options.out, options.force)
    if is_exported(file):
        raise ConfigError(f"{file} is an exported program, which has no derivatives; give the model file")
    model = load_predictor(file)
    rows = read_inputs(model, options.x)
    count = len(jax.tree.leaves(rows)[0])
    if not 0 <= options.example < count:
        raise ConfigError(f"--example {options.example}: {named} has {count} examples; expected 0 to {count - 1}")
    x = jax.tree.map(lambda array: array[options.example : options.example + 1], rows)
    check_input(str(file), model.apply_fn, model.params, x, model.input_shape)
    x = jax.tree.map(lambda array: np.asarray(array, np.float32), x)
    target, what = pick_target(model, x, options.target)
    how = {"method": options.method, "baseline": options.baseline}
    if "key" in METHODS.get(options.method, ()):
        how["key"] = jax.random.key(0)
    values, _ = attribute(Partial(model.apply_fn, model.params), x, target, **how)
    drawn, inputs = ({name: one[name] for name in model.inputs} if model.inputs else {"": one} for one in (values, x))
    figure = heats(drawn, inputs, title=what)
    with replacing(options.out) as handle:
        figure.savefig(handle, format=suffix[1:])
    print(f"example {options.example} of {named}, {what}, explained by {options.method}, in {options.out}")
