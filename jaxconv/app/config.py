"""Reading of a config file: ``--set`` settings are applied, every key is checked, and defaults are filled in."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxconv.app import data
from jaxconv.app.model_table import build_model, layer_table
from jaxconv.app.own_layers import import_file
from jaxconv.app.pretrained import PretrainedModel, freeze_layers
from jaxconv.app.schema import ConfigError, FilePath, Location, read_arguments
from jaxconv.app.toml import check_limits, override, read_toml
from jaxconv.app.train_table import TrainTable, check_train_table
from jaxconv.contract import Layer
from jaxconv.files.loading import read_model
from jaxconv.registry import nearest

SECTIONS = ("data", "model", "train")


@dataclasses.dataclass(frozen=True)
class Config:
    """A config in which each key and each value is valid by itself.

    file: its file, for messages. name: of the run. data, train: the sections with all defaults. pretrained: the file of
    the model, if it comes from one. module: the Python file with the user's own layers.
    """

    file: str
    name: str
    data: dict[str, Any]
    model: Layer
    train: TrainTable
    pretrained: PretrainedModel | None = None
    module: Path | None = None

    def tree(self) -> dict[str, Any]:
        """Return the config as nested dicts, from which ``build_config`` builds an equal one."""
        model: dict[str, Any] = {"layers": [layer_table(layer) for layer in self.model.children.values()]}
        if self.pretrained is not None:
            model = {"file": self.pretrained.file.name, "freeze": list(self.pretrained.freeze)}
        elif self.model.dtype is not None:
            model["dtype"] = self.model.dtype
        if self.module is not None:
            model["import"] = self.module.name
        train = without_none(dataclasses.asdict(self.train))
        return {"name": self.name, "data": self.data, "model": model, "train": train}


def read_config(
    path: str | Path,
    settings: Sequence[str] = (),
    *,
    pretrained: Path | None = None,
    freeze: Sequence[str] = (),
    own: bool = True,
) -> Config:
    """Read a config file, apply ``--set`` settings, and check each key and value by itself. Raises ConfigError.

    settings: see :func:`override`. pretrained: a model file, instead of the section ``[model]``. freeze: patterns of
    its layers that are not trained; see :func:`freeze_layers`. own: whether the user gave this file, so that
    ``model.import`` is imported; False for that of a run folder.
    """
    tree = read_toml(path)
    if pretrained is not None:
        model = [setting for setting in settings if setting.partition("=")[0].strip().partition(".")[0] == "model"]
        if model:
            raise ConfigError(f"--set {model[0]}: with --from, the model is that of {pretrained}; omit it")
        given = tree["model"] if isinstance(tree.get("model"), Mapping) else {}
        kept = {key: value for key, value in given.items() if key == "import"}
        tree["model"] = {"file": str(pretrained.resolve()), "freeze": list(freeze), **kept}
    override(tree, settings)
    check_limits(tree, str(path))
    return build_config(tree, str(path), default_name=Path(path).stem, own=own)


def build_config(tree: Mapping[str, Any], file: str, default_name: str = "run", own: bool = True) -> Config:
    """Check a config given as nested dicts; see :func:`read_config`."""
    top = Location(file)
    allowed = ("name", *SECTIONS)
    for key, value in tree.items():
        if key not in allowed:
            is_option = key in [field.name for field in dataclasses.fields(TrainTable)]
            hint = f"did you mean 'train.{key}'? {nearest('', allowed)}" if is_option else nearest(key, allowed)
            raise top.error(key, value, f"unknown key; {hint}")
    for key in SECTIONS:
        if not isinstance(tree.get(key, {}), Mapping):
            raise top.error(key, tree[key], "expected a table")
        if key not in tree:
            raise top.missing(key, f"a config has the tables {', '.join(f'[{name}]' for name in SECTIONS)}")
    name = tree.get("name", default_name)
    if not isinstance(name, str) or not name or name in (".", "..") or set(name) & set('/\\:*?"<>|\n'):
        raise top.error("name", name, "expected a valid name of a folder")
    data_table = without_none(data.read_table(tree["data"], top / "data"))
    module, model_table = _read_import(tree["model"], top / "model", own)
    try:
        model, pretrained = _read_model(model_table, top / "model")
    except ConfigError as error:
        if module is None or own:
            raise
        found = str(error).partition("; expected ")[0]
        hint = f"this run has custom layers in {module}, which is code: read it, then give --import {module}"
        raise ConfigError(f"{found}; {hint}") from None
    train = check_train_table(tree["train"], top / "train")
    return Config(file, name, data_table, model, train, pretrained, module)


def _read_import(table: Any, location: Location, own: bool) -> tuple[Path | None, Any]:
    """Import the file that ``import`` names, relative to the config; return it, and the table without the key."""
    if not isinstance(table, Mapping) or "import" not in table:
        return None, table
    name = table["import"]
    if not isinstance(name, str) or not name.endswith(".py"):
        raise location.error("import", name, 'expected a Python file next to the config, such as "my_layers.py"')
    path = Path(location.file).parent / name
    if own:
        try:
            import_file(path)
        except ConfigError as error:
            raise location.error("import", name, str(error)) from None
    return path, {key: value for key, value in table.items() if key != "import"}


def _read_model(table: Any, location: Location) -> tuple[Layer, PretrainedModel | None]:
    """Build the model from its layers, or read it from a file, whose path is relative to the config's folder."""

    def from_file(*, file: FilePath, freeze: tuple[str, ...] = ()) -> tuple[Layer, PretrainedModel]:
        path = Path(location.file).parent / file
        read = read_model(path)
        return freeze_layers(read.layer, freeze), PretrainedModel(path, freeze, read.params)

    if not isinstance(table, Mapping) or not {"file", "freeze"} & set(table):
        return build_model(table, location), None
    if "layers" in table:
        raise location.error("layers", table["layers"], "a model has either layers or a file; omit one of them")
    arguments = read_arguments(table, from_file, location, user="a model with a file")
    try:
        return from_file(**arguments)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def without_none(value: Any) -> Any:
    """Return a config value without the entries that are None: TOML has no null, and None is always the default."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value] if isinstance(value, list | tuple) else value
