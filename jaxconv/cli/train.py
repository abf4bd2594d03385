"""``jaxconv train``: train a model from a config, fine-tune one, or resume a run."""

import argparse
from typing import Any

from jaxconv.cli.device_options import add_options, announce, read_sharding

NAME, SUMMARY = "train", "train a model from a config file, fine-tune one, or resume a run"
TEXT = """\
Train the model of CONFIG. The run folder contains

  config.toml          the config with all defaults; training it again gives the same numbers
  metrics.csv          one row per epoch
  learning_curve.png   loss and metrics against the epoch
  model.keras          the trained model, which Keras can load, too
  checkpoint.npz       the progress of training, for --resume
  results.json         test metrics, seconds, versions

With --from, the model and its weights come from a file, and CONFIG gives data and training; its [model] is not used.
Layers that match --freeze are not trained: their weights and statistics do not change. The file is copied to
the run folder.

A config is described key by key by 'jaxconv train --keys'. With [model] import = "my_layers.py" it uses your own
layers; the run folder keeps a copy of that file, which runs only with --import.

With --devices, each batch is split over several devices, with the same results as on one. With --coordinator, these
are the devices of several processes: give each the same command and its own --process. Process 0 writes the files; all
end when one ends.

Examples
  jaxconv train configs/digits_conv2d.toml --out /tmp/digits
  jaxconv train configs/digits_conv2d.toml --set train.batch_size=64 --set model.layers.0.filters=16
  jaxconv train configs/digits_conv2d.toml --set 'train.optimizer.learning_rate={name="cosine_decay", init_value=1e-3}'
  jaxconv train --resume runs/digits_conv2d --set train.epochs=60
  jaxconv train configs/digits_conv2d.toml --from runs/digits_conv2d/model.keras --freeze 'conv*' --freeze dense
  jaxconv train configs/digits_conv2d.toml --devices all --coordinator 10.0.0.1:1234 --processes 2 --process 0
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="a TOML file; see configs/ for examples")
    parser.add_argument("--keys", action="store_true", help="print every key of a config, in Markdown, and exit")
    repeated: dict[str, Any] = {"action": "append", "default": []}
    key = "set any key of the config: train.epochs=50, model.layers.0.filters=64; may be repeated"
    parser.add_argument("--set", metavar="KEY=VALUE", dest="settings", help=key, **repeated)
    parser.add_argument("--out", metavar="DIR", help="the run folder (default: runs/NAME, or runs/NAME-2, ...)")
    parser.add_argument("--resume", metavar="RUN", help="a run folder: continue from its last checkpoint")
    parser.add_argument("--from", metavar="MODEL", dest="pretrained", help="a run folder or model file to start from")
    names = "with --from: names of layers not to train: 'conv*', 'encoder/*'; may be repeated"
    parser.add_argument("--freeze", metavar="PATTERN", help=names, **repeated)
    add_options(parser)


def run(options: argparse.Namespace) -> None:
    """Train a model, or resume a run."""
    if options.keys:
        from jaxconv.app.config_keys import keys_page

        print(keys_page(), end="")
        return
    from jaxconv.app import run
    from jaxconv.app.run_folder import model_file

    if options.resume and (options.config or options.out or options.pretrained or options.freeze):
        extra = "CONFIG, --out, --from and --freeze" if options.pretrained or options.freeze else "CONFIG and --out"
        raise ValueError(f"--resume takes the config and the folder from the run; omit {extra}")
    if options.freeze and not options.pretrained:
        raise ValueError(f"--freeze {options.freeze[0]} is for a trained model; give it with --from MODEL")
    devices = {"sharding": read_sharding(options), "announce": announce}
    if options.resume:
        run.resume(options.resume, options.settings, **devices)
    elif options.config:
        pretrained = model_file(options.pretrained) if options.pretrained else None
        source = {"pretrained": pretrained, "freeze": options.freeze}
        run.train(options.config, options.settings, options.out, **source, **devices)
    else:
        raise ValueError("jaxconv train needs a config (jaxconv train configs/gunpoint_fcn.toml) or --resume RUN")
