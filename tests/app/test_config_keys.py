"""The page examples/config_keys.md equals the output of the command, and lists every key of a config."""

import dataclasses

import pytest

from jaxconv.app import data
from jaxconv.app.config_keys import keys_page
from jaxconv.app.schema import parameters
from jaxconv.app.train_table import TrainTable
from jaxconv.cli.command_line import main
from jaxconv.training.metrics import registry
from tests.support import pages

PAGE = "examples/config_keys.md"


def test_the_page_is_what_the_command_prints(capsys):
    assert main(["train", "--keys"]) == 0
    assert capsys.readouterr().out == keys_page() == (pages.ROOT / PAGE).read_text()


def test_every_key_is_explained():
    text = keys_page()
    keys = [field.name for field in dataclasses.fields(TrainTable)]
    keys += [name for source in data.sources.values() for name in parameters(source)] + [
        "import",
        "dtype",
        "file",
        "freeze",
    ]
    cells = [row.split("|") for row in text.splitlines() if row.startswith("| `") and row.count("|") > 4]
    rows = {cell[1].strip(" `"): cell[4].strip() for cell in cells}
    assert all(len(rows[key]) > 5 for key in keys), {key: rows.get(key) for key in keys}
    assert not [row for row in rows.values() if row.endswith(",")], "an ellipsis was cut off"


@pytest.mark.parametrize("name", [*data.sources, *registry.names(), "Conv1D", "huber", "from_logits", "threshold"])
def test_every_name_is_listed(name):
    assert f"`{name}`" in keys_page() or f'"{name}"' in keys_page() or f"`{name}` (" in keys_page()
