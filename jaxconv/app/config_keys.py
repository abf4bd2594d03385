"""Generator of the page of all config keys, from the functions and dataclasses that take them as arguments."""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

from jaxconv.app import data
from jaxconv.app.schema import describe, format_value, parameters
from jaxconv.app.train_table import TrainTable
from jaxconv.contract import layers
from jaxconv.registry import Registry
from jaxconv.training.loop import EarlyStopping
from jaxconv.training.losses import losses
from jaxconv.training.metrics import registry as metrics

_MODEL = """\
| key | value | default | meaning |
|---|---|---|---|
| `layers` | a list of tables | required, or `file` | in order; `layer` is the class, the rest its arguments |
| `dtype` | a string | float32 | the policy of all layers without one: `"mixed_bfloat16"`, `"mixed_float16"`, ... |
| `import` | a path | none | a Python file of layers, relative to the config: [custom_layers.md](custom_layers.md) |
| `file` | a path | none | a model file in place of `layers`, relative to the config |
| `freeze` | a list (of strings) | none | with `file`: patterns of the names of layers that are not trained |

A regularizer, constraint or initializer is a name, or a table with a name and arguments:
`kernel_constraint = {name = "max_norm", max_value = 2}`. A layer inside a layer (`TimeDistributed`, `Residual`) is a
table with the key `layer`, under the key `inside` or in a list. The layers are those of [layers.md](layers.md):
"""


def keys_page() -> str:
    """Return the page, in Markdown."""
    known = [name for name in layers.names() if layers[name].__module__.startswith("jaxconv")]
    names = sorted(name for name in known if name[0].isupper())
    parts = [
        "# Every key of a config",
        "This page is the output of `jaxconv train --keys`. `--set KEY=VALUE` sets any key: "
        "`--set train.optimizer.learning_rate=0.01`.",
        "The key `name` is the name of the run, by default that of the file. The other keys are in three tables.",
        "## `[model]`",
        _MODEL + textwrap.fill(", ".join(f"`{name}`" for name in names) + ".", 118),
        "## `[train]`",
        _table(TrainTable),
        "### `train.early_stopping`",
        _table(EarlyStopping),
        "### `train.loss`",
        'A name, or a table with a name and options: `loss = {name = "huber", delta = 0.5}`. With '
        "`from_logits = true` a crossentropy takes a model that ends without softmax or sigmoid.",
        _entries(losses),
        "### `train.metrics` and `train.weighted_metrics`",
        'A list of names, or of tables with a name and options: `metrics = ["accuracy", {name = "precision", '
        "threshold = 0.3}]`. Without `threshold`, it is 0 for `binary_crossentropy` with `from_logits = true`, and "
        "otherwise 0.5. Each loss is also a metric: its mean over the samples.",
        _entries(metrics),
        "### `train.optimizer`",
        "A name, or a table with a name and the arguments of the function in optax: `adam`, `adamw`, `sgd`, ... Its "
        "`learning_rate` is a number, or a table with the name of a schedule of optax and its arguments, such as "
        '`{name = "cosine_decay", init_value = 1e-2}`. `clipnorm`, `global_clipnorm` and `clipvalue` clip gradients.',
        "## `[data]`",
        "`source` names the source, and the other keys are its arguments. Paths are relative to the\n"
        "config, or else to the current folder.",
    ]
    for name, source in data.sources.items():
        summary = inspect.cleandoc(source.__doc__ or "").partition("\n")[0].replace("``", "`")
        parts += [f'### `source = "{name}"`', summary, _table(source)]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _entries(registry: Registry) -> str:
    """Return the table of the losses or metrics: class, names, and options with their defaults."""
    kinds = {registry[name].__name__: registry[name] for name in registry.names()}
    rows = [f"| {registry.kind} | names | options |", "|---|---|---|"]
    for kind in sorted(kinds):
        names = ", ".join(f"`{name}`" for name in registry.names() if registry[name] is kinds[kind] and name != kind)
        fields = [field for field in dataclasses.fields(kinds[kind]) if not field.kw_only]  # without a metric's name
        options = [f"`{f.name}` ({'none' if f.default is None else format_value(f.default)})" for f in fields]
        rows.append(f"| `{kind}` | {names} | {', '.join(options)} |")
    return "\n".join(rows)


def _table(function: Callable[..., Any]) -> str:
    """Return the keys that are the arguments of a function or dataclass, with their descriptions in its docstring."""
    texts = _documented(function)
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, parameter in parameters(function).items():
        default = parameter.default
        shown = "none" if default in (None, ()) else f"`{format_value(default)}`"
        shown = "required" if default is parameter.empty else shown
        text = texts.get(name, "").replace("``", "`").replace("|", "\\|")
        text = text if text.endswith("...") else text.removesuffix(".")
        rows.append(f"| `{name}` | {describe(parameter.annotation)} | {shown} | {text} |")
    return "\n".join(rows)


def _documented(function: Callable[..., Any]) -> dict[str, str]:
    """Return the description of each argument in the section Args of a docstring."""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", inspect.cleandoc(function.__doc__ or ""), re.M)
    found: dict[str, str] = {}
    for text in re.split(r"^    (?=\S)", section[1] if section else "", flags=re.M):
        names, _, meaning = text.partition(":")
        found |= dict.fromkeys((name.strip() for name in names.split(",")), " ".join(meaning.split()))
    return found
