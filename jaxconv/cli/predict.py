"""``jaxconv predict``: what it takes, and where it goes."""

import argparse
from pathlib import Path
from typing import Any

NAME, SUMMARY = "predict", "apply a trained model to arrays in files"
TEXT = """\
Apply a trained model to an array. Input and output are memory-mapped: they may be larger than memory. A model of
several inputs takes one .npy file for each, in their order, or one .npz file with an array under the name of each,
which has to fit into memory; one of several outputs gives an .npz file with the names of the layers that give them.
The result takes its name when it is whole. MODEL may be what 'jaxconv export' wrote, too.

Examples
  jaxconv predict runs/gunpoint_fcn x.npy --out y.npy --batch 256
  jaxconv predict model.h5 x.npy --out y.npy
  jaxconv predict two_inputs.keras left.npy right.npy --out y.npy
  jaxconv predict model.jaxexport x.npy --out y.npy
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="a run folder, a model file, or an exported model")
    parser.add_argument("x", nargs="+", metavar="X.npy", help="the input, one example per row")
    parser.add_argument("--out", required=True, metavar="Y.npy", help="where the predictions go")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="examples computed at once (default: 32)")


def run(options: argparse.Namespace) -> None:
    """Predict."""
    from jaxconv.app import inference, prediction
    from jaxconv.serving.artifact import is_exported

    file = inference.model_file(options.model)
    model = _exported(file) if is_exported(file) else prediction.trained(file)
    print(prediction.predict(model, options.x, options.out, batch=options.batch))


def _exported(file: Path) -> Any:
    """Give an exported program as what predicts."""
    from jaxconv.app.prediction import Predictor
    from jaxconv.serving.artifact import load_exported

    program = load_exported(file)
    shape = program.input_shape
    several = isinstance(shape, list | dict)
    names = tuple(sorted(shape) if isinstance(shape, dict) else [f"input_{n}" for n in range(len(shape))])

    def apply_fn(params: Any, x: Any) -> Any:
        if not several:
            return program(x)
        return program(x if isinstance(shape, dict) else [x[name] for name in names])

    outputs = tuple(f"output_{n}" for n in range(program.outputs)) if program.outputs > 1 else ()
    return Predictor(str(file), apply_fn, {}, shape, names if several else (), outputs)
