"""Errors for configs that are too large to run or too deeply nested to read, before anything is built."""

import time

import pytest

from jaxconv.app import run
from jaxconv.app.compatibility import check_shapes, load_data
from jaxconv.app.config import build_config, read_config
from jaxconv.app.schema import ConfigError
from tests.support.small_run import write_small_run


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_small_run(tmp_path_factory.mktemp("limits"))


@pytest.mark.parametrize(
    ("setting", "facts"),
    [
        (f"train.epochs={10**29}", ["train.epochs", "64 bits"]),
        (f"train.epochs={10**12}", ["train.epochs", "1 to 2147483647"]),
        (f"train.batch_size={2**31}", ["train.batch_size", "1 to 2147483647"]),
        (f"train.epochs={'9' * 5000}", ["train.epochs"]),
        (f"model.layers.0.filters={10**30}", ["model.layers.0.filters", "64 bits"]),
        (f"model.layers.0.filters={10**9}", ["model.layers.0", "GB"]),
        (f"model.layers.0.filters={2**62}", ["model.layers.0"]),
        (f"model.layers.0.kernel_regularizer={{name = 'l2', l2 = {10**30}}}", ["l2", "64 bits"]),
        (f"data.path={{a = {10**30}}}", ["data.path", "64 bits"]),
        ("train.validation_split=0.99", ["train.validation_split = 0.99", "16 samples"]),
        ("train.loss=" + "[" * 100_000, ["levels"]),
        (f"train.loss={'[' * 60}{']' * 60}", ["train.loss", "levels"]),
        ("train.loss." + "a." * 100 + "b=1", ["levels"]),
        (f"model.layers.{'9' * 5000}.units=1", ["0 to 4"]),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_settings_beyond_the_limits_are_refused_at_once(config, setting, facts):
    start = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        run.train(str(config), [setting], str(config.parent / "out"))
    assert time.monotonic() - start < 5
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1000
    for fact in facts:
        assert fact in message, message
    assert not (config.parent / "out").exists()


def test_an_output_larger_than_the_memory_is_refused(config):
    layer = "model.layers.1={layer = 'UpSampling1D', size = 1000000000}"
    checked = read_config(config, [layer])
    with pytest.raises(ConfigError, match=r"model\.layers\.1.*8000000000.*GB"):
        check_shapes(checked, load_data(checked))


@pytest.mark.parametrize("inside", [False, True], ids=["flat", "nested"])
def test_too_many_layers_are_refused_at_once(inside):
    layers = [{"layer": "ReLU"}] * 100_000
    tree = {
        "data": {"source": "digits"},
        "model": {"layers": [{"layer": "Sequential", "layers": layers}] if inside else layers},
        "train": {"loss": "mse"},
    }
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"model\.layers.*10000") as caught:
        build_config(tree, "a.toml")
    assert time.monotonic() - start < 2 and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "text",
    [
        *("a = " + "[" * 100_000, "a = " + "{a = " * 5_000, f"a = {'[' * 60}{']' * 60}"),
        *("a." * 100_000 + "a = 1", "a . " * 100_000 + "a = 1", "[" + "\"#\".'='." * 50_000 + "a]"),
        'b = """\\"""" # \'\na = {' + "a." * 100_000 + "a = 1}",
    ],
    ids=["lists", "tables", "closed lists", "dotted keys", "blanks", "quoted keys", "behind a text"],
)
def test_a_deeply_nested_file_is_refused_at_once(tmp_path, text):
    (tmp_path / "a.toml").write_text(text)
    start = time.process_time()
    with pytest.raises(ConfigError, match=r"a\.toml.*50 levels"):
        read_config(tmp_path / "a.toml")
    assert time.process_time() - start < 2


def test_a_huge_file_is_refused_unread(tmp_path):
    with open(tmp_path / "a.toml", "wb") as handle:
        handle.truncate(1 << 40)  # a sparse file
    with pytest.raises(ConfigError, match=r"a\.toml.*1,099,511,627,776 bytes"):
        read_config(tmp_path / "a.toml")


@pytest.mark.parametrize(
    "data",
    [{"source": "adding_problem", "length": 10**9, "train": 10**9}, {"source": "solids", "size": 10**5, "test": 1}],
    ids=lambda data: data["source"],
)
def test_data_larger_than_the_memory_is_refused_at_once(data):
    tree = {
        "data": data,
        "model": {"layers": [{"layer": "Flatten"}, {"layer": "Dense", "units": 1}]},
        "train": {"loss": "mse"},
    }
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"^a\.toml: data.* GB"):
        load_data(build_config(tree, "a.toml"))
    assert time.monotonic() - start < 2
