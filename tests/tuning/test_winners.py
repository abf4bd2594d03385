"""Winners that were measured on this machine: what is remembered, what is believed, and what becomes of it.

No test measures time: races run on a clock that the programs themselves move on.
"""

import dataclasses
import json
import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv.cli.command_line import main
from jaxconv.geometry import Geometry
from jaxconv.kernels import choice, tuned
from jaxconv.kernels.tuned import Winner
from jaxconv.tuning.convolutions import Convolution, convolutions
from jaxconv.tuning.measurement import fastest
from jaxconv.tuning.race import HOPELESS, LEAST, MOST, race

NUMBERS = ("NWC", "WIO", "NWC")
X, W = jax.ShapeDtypeStruct((2, 12, 3), "float32"), jax.ShapeDtypeStruct((3, 3, 4), "float32")
LAYER = jaxconv.Conv1D(4, 3, padding="same")
SLOW = {"direct": 5.0, "patches": 4.0, "fourier": 9.0}  # milliseconds; everything else takes 7


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Remember in a file of this test."""
    monkeypatch.setenv("JAXCONV_TUNED", str(tmp_path / "tuned.json"))
    tuned.renew()
    yield tmp_path / "tuned.json"
    tuned.renew()


@pytest.fixture
def raced(monkeypatch):
    """Let each lowering take the time that SLOW says; give the names of what was raced."""
    names = []

    def run(programs, seconds):
        names.append(list(programs))
        return {name: SLOW.get(name, 7.0) for name in programs}

    monkeypatch.setattr("jaxconv.tuning.measurement.race", run)
    return names


@pytest.fixture
def clock(raced, monkeypatch):
    """Do the same without compiling what would not be run."""
    monkeypatch.setattr(Convolution, "program", lambda *_, **__: lambda a, b: a)
    return raced


def convolve(x, w, padding="SAME"):
    return jaxconv.conv_general_dilated(x, w, (1,), padding, dimension_numbers=NUMBERS)


def explained(padding="SAME", platform="cpu"):
    return jaxconv.explain_lowering(X, W, (1,), padding, dimension_numbers=NUMBERS, platform=platform)


def key(x=X, w=W, padding="SAME"):
    [one] = convolutions(lambda x, w: convolve(x, w, padding), x, w)
    return one.key


def remember(lowering, ms=4.1, table="direct", table_ms=5.0):
    tuned.remember({key(): Winner(lowering, ms, table, table_ms)}, "cpu")
    tuned.renew()


def scopes(function, *arguments):
    """Give the compiled text, in which each lowering leaves its name."""
    return jax.jit(function).lower(*arguments).as_text(debug_info=True)


# -- keys


def test_a_key_is_the_same_text_in_every_process_and_tells_problems_apart():
    assert json.loads(key()) == {
        "map": "convolve", "x": [12], "w": [3], "y": [12], "strides": [1], "dilation": [1], "pads": [[1, 1]],
        "groups": 1, "operands": [[2, 12, 3], [3, 3, 4]], "dtype": "float32",
    }  # fmt: skip
    half = [jax.ShapeDtypeStruct(v.shape, "bfloat16") for v in (X, W)]
    others = [key(*half), key(padding="VALID"), key(jax.ShapeDtypeStruct((3, 12, 3), "float32"))]
    assert len({key(), *others}) == 4


def test_both_data_formats_share_a_key():
    first = jax.ShapeDtypeStruct((2, 3, 12), "float32")

    def channels_first(x, w):
        return jaxconv.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=("NCW", "WIO", "NCW"))

    assert [one.key for one in convolutions(channels_first, first, W)] == [key()]


def test_what_leaves_no_choice_or_has_no_known_size_has_no_key(file):
    (n,) = jax.export.symbolic_shape("n")
    geometry = Geometry((12,), (3,), (1,), ((1, 1),), (1,), (1,), 1, (0, 2, 1), (2, 1, 0), (0, 2, 1))
    assert choice.key("convolve", geometry, X, W) == key()
    assert choice.key("convolve", geometry, jax.ShapeDtypeStruct((n, 12, 3), "float32"), W) is None
    both = dataclasses.replace(geometry, strides=(2,), lhs_dilation=(2,), padding=((1, 1),))
    assert choice.key("convolve", both, X, W) is None
    remember("fourier")
    exported = jax.export.export(jax.jit(convolve))(jax.ShapeDtypeStruct((n, 12, 3), "float32"), W)
    assert "fft" not in exported.mlir_module()


# -- what a remembered winner changes


def test_a_winner_is_explained_and_computed_with_the_right_values(file):
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(v.shape), "float32") for v in (X, W))
    want, text = jax.jit(convolve)(x, w), scopes(convolve, X, W)
    assert "jaxconv.convolve.direct" in text
    remember("fourier")
    how = explained()[0]
    assert how.lowering == "fourier"
    assert how.because == "measured on this machine: 4.1 ms, the table's choice (direct) 5 ms"
    assert "jaxconv.convolve.fourier" in scopes(convolve, X, W)
    # a transform of 14 points: a few roundings of numbers about 3
    np.testing.assert_allclose(jax.jit(convolve)(x, w), want, atol=1e-5)
    assert explained("VALID")[0].lowering == "direct"  # another problem


def test_a_winner_that_is_xla_or_the_choice_of_the_table_is_named_too(file):
    remember("xla")
    assert explained()[0].lowering == "xla"
    assert "jaxconv.convolve" not in scopes(convolve, X, W)
    remember("direct", 5.0)
    assert explained()[0].because == "measured on this machine: 5 ms, the table's choice, and nothing beat it"


def test_who_asks_for_a_lowering_gets_it_whatever_was_measured(file):
    remember("fourier")
    with jaxconv.lowering("dots"):
        assert explained()[0].lowering == "dots"


def test_a_winner_of_the_cpu_changes_nothing_that_is_compiled_for_others(file):
    remember("fourier")
    assert explained(platform="tpu")[0].lowering == "xla"
    exported = jax.export.export(jax.jit(convolve), platforms=["cuda"])(X, W).mlir_module()
    assert "stablehlo.convolution" in exported and "fft" not in exported


def test_a_winner_of_another_platform_is_taken_there(file, monkeypatch):
    monkeypatch.setattr(tuned, "_device", lambda backend: f"some {backend}")
    tuned.remember({key(): Winner("fourier", 1.0, "xla", 2.0)}, "cuda")
    tuned.renew()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the file being another device's, when the CPU asks
        for platforms in (["cuda"], ["cpu", "cuda", "tpu"]):
            module = jax.export.export(jax.jit(convolve), platforms=platforms)(X, W).mlir_module()
            assert ("fft" in module) is (platforms == ["cuda"])  # one code for several platforms is XLA's
    assert explained(platform="cuda")[0].lowering == "fourier"


@pytest.mark.parametrize("lowering", ["winograd", "slices", "phases"])
def test_a_winner_that_is_unknown_or_cannot_compute_the_problem_is_ignored(file, lowering):
    remember(lowering)
    assert explained()[0].lowering == "direct"


def test_the_choice_stays_what_it_was_when_the_file_changes(file):
    remember("fourier")
    assert explained()[0].lowering == "fourier"
    tuned.remember({key(): Winner("dots", 1.0, "direct", 5.0)}, "cpu")
    assert explained()[0].lowering == "fourier"
    tuned.renew()
    assert explained()[0].lowering == "dots"


# -- the file


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: text[: len(text) // 2], "is damaged: it is no JSON"),
        (lambda text: "", "is damaged: it is no JSON"),
        (lambda text: "[1, 2]", "is no file of tuned lowerings"),
        (lambda text: "[" * 100_000, "is damaged: it is no JSON"),
        (lambda text: text.replace('"ms": 4.1', '"ms": "soon"'), "is damaged: an entry is no measurement"),
        (lambda text: text.replace('"ms": 4.1', '"ms": NaN'), "is damaged: an entry is no measurement"),
        (lambda text: text.replace('"ms": 4.1', '"s": 4.1'), "is damaged: an entry is no measurement"),
        (lambda text: text.replace('"entries"', '"results"'), "is damaged: an entry is no measurement"),
        (lambda text: text.replace(f'"{jax.__version__}"', '"0.4.1"'), "measured elsewhere: its jax is '0.4.1', this"),
        (lambda text: text.replace('"platform": "cpu"', '"platform": "tpu"'), "elsewhere: its platform is 'tpu'"),
        (lambda text: text.replace("cores", "hearts"), "measured elsewhere: its device is "),
        (lambda text: text.replace('"version": 1', '"version": 2'), "measured elsewhere: its version is 2"),
    ],
)
def test_a_damaged_or_foreign_file_is_ignored_with_one_warning(file, change, complaint):
    remember("fourier")
    changed = change(file.read_text())
    assert changed != file.read_text()
    file.write_text(changed)
    with pytest.warns(UserWarning, match=complaint) as caught:
        assert explained()[0].lowering == "direct"
        assert explained()[0].lowering == "direct"
    assert len(caught) == 1 and str(caught[0].message).endswith("it is ignored")
    # the file was named by the user, and may be anything
    with pytest.raises(ValueError, match=rf"JAXCONV_TUNED: .*{complaint}.*; name another file, or remove this one"):
        remember("dots")
    with pytest.raises(ValueError, match="name another file, or remove this one"):
        tuned.forget("cpu")
    assert file.read_text() == changed


def test_a_file_that_cannot_be_read_is_ignored_with_a_warning(file):
    file.mkdir()
    with pytest.warns(UserWarning, match=r"cannot be read: Is a directory; it is ignored"):
        assert explained()[0].lowering == "direct"


def test_the_file_lies_in_the_cache_folder_under_the_name_of_device_and_version(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXCONV_TUNED")
    monkeypatch.setattr(tuned, "_device", lambda backend: "Some (R) CPU/9000, 2 cores")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    name = f"jaxconv/tuned-cpu-Some-R-CPU-9000-2-cores-jax{jax.__version__}.json"
    assert tuned.path("cpu") == tmp_path / name
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for ignored in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert tuned.path("cpu") == tmp_path / "home" / ".cache" / name
    monkeypatch.setattr(tuned, "_device", lambda backend: None)
    assert tuned.path("tpu") is None


def test_a_damaged_file_in_the_cache_folder_is_replaced(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXCONV_TUNED")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tuned.path("cpu")
    path.parent.mkdir()
    path.write_text("{")
    remember("fourier")
    assert explained()[0].lowering == "fourier"
    tuned.renew()


def test_an_empty_variable_turns_the_memory_off(file, monkeypatch):
    remember("fourier")
    monkeypatch.setenv("JAXCONV_TUNED", "")
    tuned.renew()
    assert explained()[0].lowering == "direct"
    with pytest.raises(ValueError, match=r"JAXCONV_TUNED is empty; name a file, JAXCONV_TUNED=tuned\.json"):
        jaxconv.tune(LAYER, (2, 12, 3))


def test_winners_are_added_to_those_that_are_there(file):
    remember("fourier")
    tuned.remember({"another": Winner("dots", 1.0, "direct", 2.0)}, "cpu")
    tuned.renew()
    assert {one.lowering for one in tuned.winners("cpu").values()} == {"fourier", "dots"}
    assert tuned.forget("cpu") == 2
    assert tuned.forget("cpu") == 0
    assert not file.exists()


def test_a_write_that_fails_leaves_the_old_file_and_no_other(file, monkeypatch):
    remember("fourier")
    before = file.read_text()

    def broken(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space left"):
        remember("dots")
    assert file.read_text() == before
    assert list(file.parent.iterdir()) == [file]


# -- races


class Clock:
    """A clock that stands still except while a program runs."""

    def __init__(self):
        self.now, self.runs = 0.0, {}

    def __call__(self):
        return self.now

    def program(self, name, *seconds):
        def run():
            number = self.runs[name] = self.runs.get(name, 0) + 1
            self.now += seconds[min(number, len(seconds)) - 1]

        return run


def test_a_race_gives_medians_of_programs_that_take_turns():
    clock = Clock()
    programs = {"a": clock.program("a", 0.02, 0.02, 0.02, 0.03, 0.9), "b": clock.program("b", 0.04)}
    assert race(programs, 0.0, clock) == pytest.approx({"a": 30, "b": 40})  # two runs before, then 20, 30 and 900 ms
    assert clock.runs == {"a": 2 + LEAST, "b": 2 + LEAST}


def test_a_race_ends_with_its_time_or_after_many_rounds():
    clock = Clock()
    race({"a": clock.program("a", 0.01)}, 0.1, clock)
    assert clock.runs["a"] in (12, 13)  # two before, and ten; or one more, where ten sum to less than 0.1
    clock = Clock()
    race({"a": clock.program("a", 0.0)}, 1.0, clock)
    assert clock.runs["a"] == 2 + MOST


def test_the_hopeless_drop_out_after_one_run_and_those_that_were_slow_once_do_not():
    clock = Clock()
    programs = {
        "first": clock.program("first", 1.0),
        "best": clock.program("best", 0.05),
        "hopeless": clock.program("hopeless", 1.01 * HOPELESS * 0.05),
        "cold": clock.program("cold", 0.09, 0.06),
    }
    found = race(programs, 0.0, clock)
    assert list(found) == ["first", "best", "cold"]  # the first is what the others are compared with
    assert clock.runs["hopeless"] == 1


# -- tuning a layer


def test_tuning_measures_a_layer_and_what_is_faster_is_computed(file, clock):
    report = jaxconv.tune(LAYER, (None, 12, 3), batch=2)
    assert [(one.map, one.convolution) for one in report] == [
        ("convolve", "2x12x3 to 12x4, k3 float32"),
        ("correlate", "2x12x3 to 12x4, k3 float32"),
    ]
    assert report[0].winner == Winner("patches", 4.0, "direct", 5.0)
    assert [one.lowering for one in explained()] == ["patches", "phases > direct", "patches"]
    params, apply_fn = LAYER.init(jax.random.key(0), (None, 12, 3))
    assert "jaxconv.convolve.patches" in scopes(apply_fn, params, X)
    assert str(file) in repr(report) and "2 convolutions: 12 ms by the table, 8 ms as tuned" in repr(report)


def test_a_program_that_was_compiled_before_follows_the_new_choice(file, clock):
    traced = []

    @jax.jit
    def call(x, w):
        traced.append(x)
        return convolve(x, w)

    x, w = jnp.ones(X.shape), jnp.ones(W.shape)
    call(x, w)
    call(x, w)
    assert len(traced) == 1
    jaxconv.tune(LAYER, X.shape, train=False)
    call(x, w)
    assert len(traced) == 2


def test_what_was_measured_once_is_not_measured_again_unless_asked_for(file, clock):
    jaxconv.tune(LAYER, (2, 12, 3), train=False)
    count = len(clock)
    report = jaxconv.tune(LAYER, (2, 12, 3), train=False)
    assert len(clock) == count
    assert report[0].before and repr(report).count("(before)") == 1
    assert not jaxconv.tune(LAYER, (2, 12, 3), train=False, again=True)[0].before
    remember("winograd")  # by a jaxconv that knew it
    assert not jaxconv.tune(LAYER, (2, 12, 3), train=False)[0].before


def test_a_winner_has_to_be_clearly_faster_and_twice(clock, monkeypatch):
    [one] = convolutions(convolve, X, W)
    answers = iter([{"direct": 5.0, "dots": 4.8}])
    monkeypatch.setattr("jaxconv.tuning.measurement.race", lambda *_: next(answers))
    assert fastest(one, "cpu", 0.0) == Winner("direct", 5.0, "direct", 5.0)
    answers = iter([{"direct": 5.0, "dots": 4.0}, {"direct": 4.2, "dots": 4.1}])
    assert fastest(one, "cpu", 0.0) == Winner("direct", 4.2, "direct", 4.2)
    answers = iter([{"direct": 5.0, "dots": 4.0}, {"direct": 5.1, "dots": 4.1}])
    assert fastest(one, "cpu", 0.0) == Winner("dots", 4.1, "direct", 5.1)
    answers = iter([{"direct": 5.0, "dots": 4.0}, {"direct": 5.1}])  # it dropped out
    assert fastest(one, "cpu", 0.0) == Winner("direct", 5.1, "direct", 5.1)


def test_every_lowering_runs_in_the_race_but_those_that_need_much_memory(raced, monkeypatch):
    [one] = convolutions(convolve, X, W)
    fastest(one, "cpu", 0.0)
    assert raced[0] == ["direct", *(name for name in one.able() if name != "direct")]
    monkeypatch.setattr("jaxconv.tuning.convolutions.SMALL", 0)
    monkeypatch.setattr("jaxconv.tuning.convolutions.TEMPORARY", 0)
    raced.clear()
    fastest(one, "cpu", 0.0)
    assert raced[0][0] == "direct" and len(raced[0]) < len(one.able())


def test_a_real_race_ends_with_a_lowering_that_can_compute_it(file):
    for one in convolutions(jax.value_and_grad(lambda w, x: jnp.sum(convolve(x, w))), W, X):
        winner = fastest(one, "cpu", 0.0)
        assert winner.lowering in one.able() and winner.table == one.default("cpu")
        assert 0 < winner.ms <= winner.table_ms


def test_an_interrupted_tuning_keeps_what_it_had(file, clock, monkeypatch):
    rounds = []

    def run(programs, seconds):
        rounds.append(programs)
        if len(rounds) == 2:
            raise KeyboardInterrupt
        return dict.fromkeys(programs, 1.0)

    monkeypatch.setattr("jaxconv.tuning.measurement.race", run)
    with pytest.raises(KeyboardInterrupt, match=r"interrupted; 1 of 2 convolutions remembered in .*tuned\.json"):
        jaxconv.tune(LAYER, (2, 12, 3))
    assert len(tuned.winners("cpu")) == 1
    assert [one.before for one in jaxconv.tune(LAYER, (2, 12, 3))] == [True, False]


def test_convolutions_inside_loops_branches_and_functions_are_found_once():
    w = jnp.ones((3, 3, 3))

    def inside(x):
        x, _ = jax.lax.scan(lambda x, _: (convolve(x, w), None), x, length=2)
        x = jax.lax.cond(jnp.sum(x) > 0, lambda x: convolve(x, w[:2]), lambda x: x, x)
        x = jax.checkpoint(lambda x: convolve(x, w[:1]))(x)
        with jaxconv.lowering("dots"):
            asked = convolve(x[:, :5], w)
        return jax.jit(convolve)(x, w), asked

    lengths = [one.geometry.w_lengths for one in convolutions(inside, X)]
    assert lengths == [(3,), (2,), (1,)]


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (jaxconv.Conv1DTranspose(4, 3, strides=2), (2, 5, 3), "2x11x4 to 5x3, k3 s2 float32"),
        (jaxconv.DepthwiseConv2D((3, 2)), (1, 6, 5, 4), "1x6x5x4 to 4x4x4, k3x2 g4 float32"),
        (jaxconv.Conv1D(4, 2, dilation_rate=3, dtype="bfloat16"), (2, 9, 3), "2x9x3 to 6x4, k2 d3 bfloat16"),
    ],
)
def test_a_convolution_is_named_by_its_sizes_whichever_map_it_is(layer, shape, words, file, clock):
    assert {one.convolution for one in jaxconv.tune(layer, shape)} == {words}


def test_models_of_several_inputs_and_of_integers_are_tuned(file, clock):
    one, two = jaxconv.Input((12, 3)), jaxconv.Input((12, 3))
    model = jaxconv.Model([one, two], jaxconv.Add()([LAYER(one), jaxconv.Conv1D(4, 5, padding="same")(two)]))
    assert len(jaxconv.tune(model, [(None, 12, 3), (None, 12, 3)])) == 4
    words = jaxconv.Sequential([jaxconv.Embedding(7, 3), LAYER])
    assert len(jaxconv.tune(words.apply_fn, (2, 9), dtype="int32")) == 3


def test_a_layer_without_a_choice_needs_no_memory():
    assert repr(jaxconv.tune(jaxconv.Dense(2), (None, 3))) == "no convolution here leaves a choice"


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((len, (2, 12, 3)), {}, TypeError, "is no layer; give a layer, a model, or its apply_fn"),
        ((LAYER, (2, None, 3)), {}, ValueError, r"input_shape \(2, None, 3\) is not known in full"),
        ((LAYER, (None, 12, 3)), {"batch": 0}, ValueError, "batch=0 is no batch size"),
        ((LAYER, (None, 12, 3)), {"dtype": "float31"}, ValueError, "dtype='float31' is no dtype"),
        ((LAYER, (None, 12, 3)), {"seconds": -1.0}, ValueError, r"seconds=-1\.0 is no time"),
        ((LAYER, (None, 12)), {}, ValueError, "Conv1D"),
    ],
)
def test_mistakes_are_named(arguments, options, error, message):
    with pytest.raises(error, match=message):
        jaxconv.tune(*arguments, **options)


# -- the command

CONFIG = """
name = "tiny"
[data]
source = "npz"
path = "tiny.npz"
[[model.layers]]
layer = "Conv1D"
filters = 4
kernel_size = 3
[[model.layers]]
layer = "GlobalAveragePooling1D"
[[model.layers]]
layer = "Dense"
units = 1
[train]
loss = "mean_squared_error"
epochs = 1
batch_size = 8
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Give a folder with a config, its data, a model file, and one that does not know its input."""
    folder = tmp_path_factory.mktemp("models")
    x = np.ones((16, 10, 3), "float32")
    np.savez(folder / "tiny.npz", x_train=x, y_train=x[:, 0, :1], x_test=x, y_test=x[:, 0, :1])
    (folder / "tiny.toml").write_text(CONFIG)
    params, _ = LAYER.init(jax.random.key(0), (None, 12, 3))
    jaxconv.save_model(folder / "mute.keras", LAYER, params)
    jaxconv.save_model(folder / "model.keras", LAYER, params, input_shape=(None, 12, 3))
    return folder


@pytest.fixture
def home(models, file, monkeypatch):
    """Go to that folder."""
    monkeypatch.chdir(models)


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["tiny.toml"], ["8x10x3 to 8x4, k3", "2 convolutions"]),
        (["tiny.toml", "--batch", "2", "--inference"], ["2x10x3 to 8x4, k3", "1 convolution:"]),
        (["model.keras"], ["32x12x3 to 12x4, k3", "2 convolutions"]),
        (["mute.keras", "--shape", "9,3"], ["32x9x3 to 9x4, k3"]),
        (["model.keras", "--forget"], ["no winners forgotten", "32x12x3 to 12x4, k3"]),
    ],
)
def test_the_command_tunes_configs_and_model_files(home, clock, capsys, words, lines):
    assert main(["tune", *words]) == 0
    said = capsys.readouterr()
    assert all(line in said.out for line in lines)
    assert said.err.startswith("convolution ")  # how far it is


def test_the_help_shows_how(capsys):
    assert main(["tune", "--help"]) == 0
    said = capsys.readouterr().out
    assert "  jaxconv tune configs/gunpoint_fcn.toml" in said and "JAXCONV_TUNED=FILE" in said


def test_the_command_forgets(home, clock, capsys, file):
    assert main(["tune", "model.keras"]) == 0
    capsys.readouterr()
    assert main(["tune", "--forget"]) == 0
    assert capsys.readouterr().out == f"2 winners forgotten: {file}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "jaxconv tune needs a run folder, a model file or a config (or --forget)"),
        (["nowhere"], "nowhere: there is no such run folder, model file or config"),
        (["."], ". is no run folder: it holds no config.toml"),
        (["tiny.npz"], "tiny.npz"),
        (["mute.keras"], "mute.keras does not say what shape its input has; give it: --shape 128,16"),
        (["model.keras", "--shape", "12x3"], "--shape 12x3: legal: the sizes of one sample, without the batch, such"),
        (["model.keras", "--shape", "12,0"], "--shape 12,0: legal: the sizes of one sample"),
        (["model.keras", "--shape", "12,3,1"], "Conv1D"),
        (["model.keras", "--batch", "0"], "--batch 0: legal: at least 1"),
        (["model.keras", "--seconds", "-1"], "--seconds -1.0: legal: 0 or more"),
        (["model.keras", "--dtype", "number"], "tune: dtype='number' is no dtype"),
    ],
)
def test_mistakes_in_the_command_are_one_line(home, clock, capsys, words, message):
    assert main(["tune", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error


def test_an_interrupted_command_says_what_is_remembered(home, clock, capsys, monkeypatch):
    def run(programs, seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxconv.tuning.measurement.race", run)
    assert main(["tune", "model.keras"]) == 130
    assert "jaxconv: interrupted; 0 of 2 convolutions remembered in" in capsys.readouterr().err
