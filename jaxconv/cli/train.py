"""``jaxconv train``: what it takes, and where it goes."""

import argparse

NAME, SUMMARY = "train", "train a model from a config file, fine-tune one, or go on with a run"
TEXT = """\
Train the model that CONFIG describes. The run folder gets

  config.toml          the config as resolved, every default written out; training it again gives the same numbers
  metrics.csv          one row per epoch
  learning_curve.png   loss and metrics against the epoch
  model.keras          the trained model, which Keras opens too
  checkpoint.npz       the whole state of the training, for --resume
  results.json         test metrics, seconds, versions

With --from the model and its weights come from a file, and CONFIG gives data and training; its [model] is not used.
--freeze keeps layers as they are, weights and statistics, bit for bit. A copy of the file goes into the run folder.

Examples
  jaxconv train configs/digits_conv2d.toml --out /tmp/digits
  jaxconv train configs/digits_conv2d.toml --set train.batch_size=64 --set model.layers.0.filters=16
  jaxconv train configs/digits_conv2d.toml --set 'train.optimizer.learning_rate={name="cosine_decay", init_value=1e-3}'
  jaxconv train --resume runs/digits_conv2d --set train.epochs=60
  jaxconv train configs/digits_conv2d.toml --from runs/digits_conv2d/model.keras --freeze 'conv*' --freeze dense
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="a TOML file; see configs/ for examples")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="replace any key of the config: train.epochs=50, model.layers.0.filters=64; may be given several times",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="the run folder (default: runs/NAME, or runs/NAME-2, ... if taken)"
    )
    parser.add_argument("--resume", metavar="RUN", help="a run folder: go on where its last checkpoint stands")
    parser.add_argument("--from", metavar="MODEL", dest="start", help="a run folder or model file to begin with")
    parser.add_argument(
        "--freeze",
        action="append",
        default=[],
        metavar="PATTERN",
        help="with --from: layers not to train, by name: 'conv*', 'encoder/*'; may be given several times",
    )


def run(options: argparse.Namespace) -> None:
    """Train, or go on with a run."""
    from jaxconv.app import inference, run

    if options.resume and (options.config or options.out or options.start or options.freeze):
        told = "CONFIG, --out, --from and --freeze" if options.start or options.freeze else "CONFIG and --out"
        raise ValueError(f"--resume takes the config and the folder from the run; leave {told} away")
    if options.freeze and not options.start:
        raise ValueError(f"--freeze {options.freeze[0]} is for a trained model: give it with --from MODEL")
    if options.resume:
        run.resume(options.resume, options.settings)
    elif options.config:
        start = inference.model_file(options.start) if options.start else None
        run.train(options.config, options.settings, options.out, start=start, freeze=options.freeze)
    else:
        raise ValueError("jaxconv train needs a config (jaxconv train configs/gunpoint_fcn.toml) or --resume RUN")
