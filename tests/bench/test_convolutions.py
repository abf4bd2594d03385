"""Benchmarks of convolutions and networks: agreement, files, errors. No test depends on measured times."""

import importlib
import importlib.util
import json
import sys
import types

import jax
import numpy as np
import pytest

import jaxconv
from jaxconv.bench import chart, convolutions, network_speed, networks, ratios, run, timing
from jaxconv.bench.cases import arrays, read_cases
from jaxconv.bench.convolutions import measure_case
from jaxconv.bench.programs import Programs
from jaxconv.cli.command_line import main

TINY = """
[[case]]
name = "tiny-strided"
family = "one"
batch = 2
spatial = [9]
channels = [2, 4]
kernel = [3]
strides = [2]
padding = "causal"
[[case]]
name = "tiny-transposed"
family = "two"
batch = 1
spatial = [4, 4]
channels = [2, 3]
kernel = [3, 3]
strides = [2, 2]
padding = "same"
transpose = true
"""
PLAIN = {"padding": "same", "use_bias": False}
BODY = [
    *(jaxconv.Conv1D(4, 3, 2, **PLAIN), jaxconv.BatchNormalization(), jaxconv.ReLU()),
    jaxconv.Parallel([jaxconv.Sequential([]), jaxconv.Conv1D(2, 3, padding="causal")], "concatenate"),
    jaxconv.DepthwiseConv1D(3, **PLAIN),
    jaxconv.Residual([jaxconv.Conv1D(6, 2, **PLAIN), jaxconv.BatchNormalization()]),
    *(jaxconv.Activation("tanh"), jaxconv.MaxPooling1D(2), jaxconv.Conv1DTranspose(4, 4, 2, **PLAIN)),
    *(jaxconv.GlobalAveragePooling1D(), jaxconv.Dense(6), jaxconv.Reshape((3, 2))),
    *(jaxconv.GlobalAveragePooling1D(), jaxconv.Dense(3)),
]
EVERYTHING = networks.Network("everything", jaxconv.Sequential(BODY), (2, 16, 2), (2,), 3)
# a convolution 3*2*4, its norm 2*4, the branch 3*4*2+2, depthwise 3*6, the residual 2*6*6 and norm 2*6, the transposed
# one 4*6*4, the dense ones 4*6+6 and 2*3+3
PARAMETERS = 24 + 8 + 26 + 18 + 72 + 12 + 96 + 30 + 9
PEERS = [name for name in network_speed.LIBRARIES if importlib.util.find_spec(name)]


@pytest.fixture(autouse=True)
def default_promotion():
    """Allow promotion of types and ranks, which the other libraries use."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def tiny(tmp_path):
    """Write a list of two small convolutions."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def refused(capsys, *arguments, code=2):
    assert main(["bench", *arguments]) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error and error.count("\n") == 1
    return error


def test_the_command_writes_a_table_results_and_a_chart(tiny, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--cases", str(tiny), "--only", "lax,jaxconv", "--seconds", "0", "--accuracy", "--out", str(out)]
    assert main(["bench", *options]) == 0
    said = capsys.readouterr().out
    assert "tiny-strided" in said and "jaxconv runs forward + gradients" in said and "geometric mean of 2" in said
    left = json.loads((out / "bench.json").read_text())
    assert left["complete"] and left["threads"] >= 1 and {"jax", "numpy", "python"} <= set(left["versions"])
    assert left["machine"]["processor"] and left["command"].startswith("jaxconv")
    for row in left["rows"]:
        assert {mode: set(times) for mode, times in row["milliseconds"].items()} == {
            "forward": {"lax", "jaxconv"},
            "forward + gradients": {"lax", "jaxconv"},
        }
        assert set(row["compile"]) == set(row["memory"]) == {"lax", "jaxconv"}
        assert max(row["error"].values()) < 1e-5  # float32 against float64, sums of at most 27 terms
        assert row["wrong"] == []
    assert [ratio["rows"] for ratio in left["ratios"]] == [2, 2]
    assert (out / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_networks_and_the_cost_of_a_call_are_measured(tmp_path, capsys, monkeypatch):
    inside = [jaxconv.Conv1D(4, 3, **PLAIN), jaxconv.BatchNormalization(), jaxconv.GlobalAveragePooling1D()]
    model = jaxconv.Sequential([*inside, jaxconv.Dense(3)])  # 24 + 8 + 15 parameters
    monkeypatch.setattr(networks, "NETWORKS", {"small": EVERYTHING._replace(name="small", model=model)})
    monkeypatch.setattr(network_speed, "CALLS", 2)
    names = [name for name in ("jaxconv", "flax") if name in PEERS]
    out = tmp_path / "out"
    assert main(["bench", "--models", "--only", ",".join(names), "--seconds", "0", "--out", str(out)]) == 0
    assert "microseconds" in capsys.readouterr().out
    network, dispatch = json.loads((out / "bench.json").read_text())["rows"]
    assert network["parameters"] == 47
    assert set(network["milliseconds"]["train step"]) == set(network["milliseconds"]["inference"]) == set(names)
    assert set(dispatch["milliseconds"]["call"]) == {"lax", "jaxconv"}


@pytest.mark.skipif("flax" not in PEERS, reason="flax is not installed")
def test_a_library_is_measured_with_and_without_accelerate(tmp_path, capsys, monkeypatch):
    model = jaxconv.Sequential([jaxconv.Conv1D(4, 3), jaxconv.GlobalAveragePooling1D(), jaxconv.Dense(3)])
    monkeypatch.setattr(networks, "NETWORKS", {"small": EVERYTHING._replace(name="small", model=model)})
    out = tmp_path / "out"
    assert main(["bench", "--accelerate", "--only", "flax", "--seconds", "0", "--out", str(out)]) == 0
    results = json.loads((out / "bench.json").read_text())
    assert [set(times) for times in results["rows"][0]["milliseconds"].values()] == [{"flax", "flax+"}] * 2
    assert [(one["who"], one["other"]) for one in results["ratios"]] == [("flax+", "flax")] * 2
    assert (out / "bench.png").exists() and "flax+" in capsys.readouterr().out


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "name", [pytest.param(p, marks=pytest.mark.slow if p in network_speed.JAX_PEERS else ()) for p in PEERS]
)
def test_every_peer_builds_every_operation_alike(name):
    one = importlib.import_module(f"jaxconv.bench.peers.{name}").build(EVERYTHING)
    one.infer.run()
    one.train.run()
    one.train.run()  # the second step uses the result of the first
    assert (one.parameters, one.output_shape) == (PARAMETERS, (2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_every_network_is_the_same_in_every_peer(name):
    network = networks.NETWORKS[name]
    made = [importlib.import_module(f"jaxconv.bench.peers.{peer}").build(network) for peer in PEERS]
    assert len({(one.parameters, one.output_shape) for one in made}) == 1
    assert made[0].output_shape == ((*network.target, network.classes) if network.classes else network.target)


def test_the_networks_have_the_size_of_their_papers():
    def count(name):
        _, model, shape, *_ = networks.NETWORKS[name]
        params = jax.eval_shape(lambda key: model.init(key, shape)[0], jax.random.key(0))
        trainable, _ = model.apply_fn.split(params)
        return sum(leaf.size for leaf in jax.tree.leaves(trainable))

    assert count("resnet18") == 11_173_962  # torchvision's 11,689,512 less 513,000 of its classes, with a stem of 3x3
    assert count("fcn") == 264_837  # 3 kernels, 3 norms, 128*5+5


def test_networks_that_differ_raise(monkeypatch):
    nothing = timing.Program(lambda: None)
    made = {"jaxconv": Programs(nothing, nothing, 5, (1, 2)), "flax": Programs(nothing, nothing, 7, (1, 2))}

    def peer(name):
        return types.SimpleNamespace(build=lambda network: made[name.rpartition(".")[2]])

    monkeypatch.setattr(network_speed, "importlib", types.SimpleNamespace(import_module=peer))
    with pytest.raises(RuntimeError, match=r"everything: flax .* 7 parameters .*jaxconv .* 5"):
        network_speed.measure_network(EVERYTHING, ["jaxconv", "flax"], 0.0)


@pytest.mark.skipif("torch" not in PEERS, reason="torch is not installed")
@pytest.mark.parametrize("number", [0, 1])
def test_torch_computes_the_same_convolutions(tiny, number):
    case = read_cases(tiny)[number]
    torch_runs = importlib.import_module("jaxconv.bench.peers.torch").convolution_programs(case, arrays(case))
    assert measure_case(case, ["lax", "torch"], 0.0)["wrong"] == []
    y, dx, dw = torch_runs[1]()
    assert dx.shape == (case.batch, case.channels[0], *case.spatial) and dw.ndim == case.rank + 2
    assert y.shape[0] == case.batch


def test_a_wrong_value_is_an_error(tiny, tmp_path, capsys, monkeypatch):
    twice = {"jaxconv": lambda *a, **k: 2 * jax.lax.conv_general_dilated(*a, **k)}
    monkeypatch.setattr(convolutions, "CONVOLVE", convolutions.CONVOLVE | twice)
    options = ["strided", "--cases", str(tiny), "--only", "lax,jaxconv", "--seconds", "0", "--out", str(tmp_path / "o")]
    assert "tiny-strided (jaxconv)" in refused(capsys, *options, code=1)


def test_the_operands_of_every_case_fit():
    listed = read_cases()
    assert len(listed) == 40 == len({case.name for case in listed})
    for case in listed:
        if np.prod(case.spatial) * case.batch * max(case.channels) > 2**20:
            continue
        x, w, dy, options, _ = arrays(case)
        out = jax.eval_shape(lambda x, w, options=options: jax.lax.conv_general_dilated(x, w, **options), x, w)
        assert out.shape == dy.shape


def test_programs_alternate_their_order(monkeypatch):
    monkeypatch.setattr(timing, "WARM_UP", 0.0)  # one untimed run
    order = []
    programs = {name: timing.Program(lambda name=name: order.append(name)) for name in "ab"}
    timing.medians(programs, 0.0)
    assert timing.MIN_ROUNDS == 3
    assert "".join(order) == "aabb" + "bbaa" + "aabb"  # the first of two runs is not timed


def test_a_program_runs_for_a_while_before_it_is_timed(monkeypatch):
    now, runs = [0.0], {"short": 0, "long": 0}

    def program(name, seconds):
        def run():
            runs[name] += 1
            now[0] += seconds

        return timing.Program(run)

    clock = types.SimpleNamespace(perf_counter=lambda: now[0], sleep=lambda seconds: None)
    monkeypatch.setattr(timing, "time", clock)
    short, long = timing.WARM_UP / 3.9, 2 * timing.LONG
    taken = timing.medians({"short": program("short", short), "long": program("long", long)}, 0.0)
    assert taken == pytest.approx({"short": 1e3 * short, "long": 1e3 * long})
    assert runs == {"short": 3 * 5, "long": 1 + 3}


def test_ratios_name_the_mean_the_worst_and_the_best():
    rows = [{"name": n, "milliseconds": {"call": {"a": 1.0, "b": b, "c": 9.0}}} for n, b in (("x", 2.0), ("y", 8.0))]
    ratio = ratios.ratios(rows, "call", "a", "b")
    assert (ratio.mean, ratio.worst, ratio.best) == (pytest.approx(4.0), "x", "y")
    assert str(ratio) == "a runs call 4.00 times as fast as b (geometric mean of 2); worst 2.00 x, best 8.00 y"
    assert ratios.speedup(rows[1], "call", "a", ratios.FASTEST_PEER, ["b", "c"]) == 8.0
    assert ratios.ratios(rows, "call", "a", "d") is None


def test_an_interruption_keeps_what_was_measured(tiny, tmp_path, capsys, monkeypatch):
    before = run.convolutions.measure_case

    def interrupted(case, *arguments):
        if case.name == "tiny-transposed":
            raise KeyboardInterrupt
        return before(case, *arguments)

    monkeypatch.setattr(run.convolutions, "measure_case", interrupted)
    out = tmp_path / "out"
    options = ["--cases", str(tiny), "--only", "lax,jaxconv", "--seconds", "0", "--out", str(out)]
    assert "bench.json has 1 of 2 rows" in refused(capsys, *options, code=130)
    left = json.loads((out / "bench.json").read_text())
    assert [row["name"] for row in left["rows"]] == ["tiny-strided"] and not left["complete"] and left["ratios"]
    assert (out / "bench.png").is_file()


def test_each_run_has_a_new_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for expected in ("runs/bench", "runs/bench-2"):
        folder = run.bench("strided", case_file=str(tiny), only="jaxconv", seconds=0)
        assert str(folder) == expected
        assert not (folder / "bench.png").exists()  # a single library has no ratios


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "tourch"], ["--only", "'tourch'", "'torch'"]),
        (["--only", "flax"], ["flax", "--models"]),
        (["--models", "--only", "lax"], ["lax", "--models"]),
        (["conv2d-resent"], ["'conv2d-resent'", "conv2d-resnet"]),
        (["resnet", "--models", "--only", "jaxconv", "--seconds", "-1"], ["--seconds -1.0"]),
        (["renset18", "--models", "--only", "jaxconv"], ["'renset18'", "resnet18"]),
        (["--models", "--accuracy"], ["--models", "--accuracy"]),
        (["--accelerate", "--only", "jaxconv"], ["jaxconv.accelerate"]),
        (["--cases", "nowhere.toml"], ["nowhere.toml: No such file"]),
        (["--seconds", "soon"], ["--seconds", "'soon'"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_invalid_arguments_are_one_line(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = refused(capsys, *arguments)
    assert all(word in error for word in words), error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[case]", ["cases.toml", "TOML"]),
        ("case = 3", ["cases.toml", "[[case]]"]),
        (TINY.replace("strides = [2]", "stride = [2]"), ["'stride'", "'strides'"]),
        (TINY.replace("kernel = [3]", ""), ["'tiny-strided'", "'kernel'"]),
        (TINY.replace("strides = [2]", "strides = [2, 1]"), ["'tiny-strided'", "strides"]),
        (TINY.replace("causal", "casual"), ["'casual'", "'causal'"]),
    ],
    ids=["toml", "none", "key", "missing", "length", "padding"],
)
def test_an_invalid_list_of_cases_is_an_error(text, words, capsys, tmp_path):
    path = tmp_path / "cases.toml"
    path.write_text(text)
    error = refused(capsys, "--cases", str(path))
    assert all(word in error for word in words), error


def test_a_library_that_is_not_installed_is_named_with_its_install_command(capsys, monkeypatch):
    monkeypatch.setattr(run, "_installed", lambda name: name not in ("torch", "haiku"))
    assert refused(capsys, "--only", "torch").endswith("pip install torch\n")
    error = refused(capsys, "--models", "--only", "jaxconv,haiku")
    assert "haiku" in error and error.endswith("pip install dm-haiku\n")


def test_without_matplotlib_nothing_is_measured(tiny, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "matplotlib" in refused(capsys, "--cases", str(tiny))


def test_an_unwritable_folder_is_an_error_before_measuring(tiny, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    assert "taken: File exists" in refused(capsys, "--cases", str(tiny), "--out", str(tmp_path / "taken"))
    (tmp_path / "folder" / "bench.json").mkdir(parents=True)
    assert "bench.json" in refused(capsys, "--cases", str(tiny), "--out", str(tmp_path / "folder"))


def test_keras_with_another_backend_raises(monkeypatch):
    keras = importlib.import_module("jaxconv.bench.peers.keras")
    monkeypatch.setattr(keras.keras.backend, "backend", lambda: "tensorflow")
    with pytest.raises(ValueError, match=r"tensorflow.*KERAS_BACKEND=jax"):
        keras.build(EVERYTHING)


def test_the_chart_has_a_bar_for_each_ratio(tmp_path):
    bars = {"forward": {"a": {"lax": 0.5, "torch": 2.0}, "b": {"lax": 120.0}}, "backward": {"a": {"lax": 1.0}}}
    chart.draw_chart(bars, tmp_path / "chart.svg", who="jaxconv", caption="a machine")
    drawn = (tmp_path / "chart.svg").read_text()
    assert all(f"<!-- {text} -->" in drawn for text in ("0.50", "120", "jax.lax", "PyTorch", "backward", "a machine"))
