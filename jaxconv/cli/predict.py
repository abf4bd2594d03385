"""``jaxconv predict``: apply a trained model to arrays in files."""

import argparse

from jaxconv.cli.device_options import add_options, read_sharding

NAME, SUMMARY = "predict", "apply a trained model to arrays in files"
TEXT = """\
Apply a trained model to an array. Input and output are memory-mapped and may be larger than memory. For a model with
several inputs, give one .npy file for each, in their order, or one .npz file with an array for each name, which must
fit in memory. The output of a model with several outputs is an .npz file with the names of the layers that compute
them. The output file is written only when it is complete. MODEL can also be a file written by 'jaxconv export'.

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
    parser.add_argument("--out", required=True, metavar="Y.npy", help="the file of the predictions")
    parser.add_argument("--force", action="store_true", help="overwrite Y.npy if it exists")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="examples per step (default: 32)")
    add_options(parser)


def run(options: argparse.Namespace) -> None:
    """Predict, and print what was written."""
    from jaxconv.app.prediction import load_predictor, predict_files
    from jaxconv.app.run_folder import model_file
    from jaxconv.files.conversion import refuse_to_replace

    file = model_file(options.model)
    refuse_to_replace(file, options.out, options.force)
    sharding = read_sharding(options)
    print(predict_files(load_predictor(file), options.x, options.out, batch=options.batch, sharding=sharding))
