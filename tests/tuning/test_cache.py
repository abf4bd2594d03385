"""The cache of winners: its files, their use, and the effect of a winner."""

import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv.kernels import tuning_cache
from jaxconv.kernels.choice import Winner
from tests.support.tuning import LAYER, W, X, convolve, explained, key, remember, scopes

# -- what a remembered winner changes


@pytest.mark.few(1)
def test_a_winner_is_explained_and_computed_with_the_right_values(file):
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(v.shape), "float32") for v in (X, W))
    want, text = jax.jit(convolve)(x, w), scopes(convolve, X, W)
    assert "jaxconv.convolve.xla_nhwc" in text
    remember("fourier")
    how = explained()[0]
    assert how.lowering == "fourier"
    assert how.reason == "measured on this machine: 4.1 ms, the table's choice (xla_nhwc) 5 ms"
    assert "jaxconv.convolve.fourier" in scopes(convolve, X, W)
    # a transform of 14 points: a few roundings of numbers about 3
    np.testing.assert_allclose(jax.jit(convolve)(x, w), want, atol=1e-5)
    assert explained("VALID")[0].lowering == "xla_nhwc"  # another problem


def test_a_winner_may_be_xla_or_the_choice_of_the_table(file):
    remember("xla")
    assert explained()[0].lowering == "xla"
    assert "jaxconv.convolve.xla/" in scopes(convolve, X, W)
    remember("xla_nhwc", 5.0)
    assert explained()[0].reason == "measured on this machine: 5 ms, the table's choice, and nothing was faster"


@pytest.mark.slow
def test_a_requested_lowering_comes_before_a_winner(file):
    remember("fourier")
    with jaxconv.lowering("matmul"):
        assert explained()[0].lowering == "matmul"


@pytest.mark.slow
def test_a_winner_of_the_cpu_changes_nothing_that_is_compiled_for_others(file):
    remember("fourier")
    assert explained(platform="tpu")[0].lowering == "xla"
    exported = jax.export.export(jax.jit(convolve), platforms=["cuda"])(X, W).mlir_module()
    assert "stablehlo.convolution" in exported and "fft" not in exported


def test_a_winner_of_another_platform_is_taken_there(file, monkeypatch):
    monkeypatch.setattr(tuning_cache, "_device", lambda backend: f"some {backend}")
    tuning_cache.remember({key(): Winner("fourier", 1.0, "xla", 2.0)}, "cuda")
    tuning_cache.reload()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the file being another device's, when the CPU asks
        for platforms in (["cuda"], ["cpu", "cuda", "tpu"]):
            module = jax.export.export(jax.jit(convolve), platforms=platforms)(X, W).mlir_module()
            assert ("fft" in module) is (platforms == ["cuda"])  # one code for several platforms is XLA's
    assert explained(platform="cuda")[0].lowering == "fourier"


@pytest.mark.parametrize("lowering", ["strassen", "shift_add", "polyphase"])
def test_a_winner_that_is_unknown_or_cannot_compute_the_problem_is_ignored(file, lowering):
    remember(lowering)
    assert explained()[0].lowering == "xla_nhwc"


def test_the_choice_stays_what_it_was_when_the_file_changes(file):
    remember("fourier")
    assert explained()[0].lowering == "fourier"
    tuning_cache.remember({key(): Winner("matmul", 1.0, "xla_nhwc", 5.0)}, "cpu")
    assert explained()[0].lowering == "fourier"
    tuning_cache.reload()
    assert explained()[0].lowering == "matmul"


# -- the file


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: text[: len(text) // 2], "is damaged: it is not JSON"),
        (lambda text: "", "is damaged: it is not JSON"),
        (lambda text: "[1, 2]", "is not a file of tuned lowerings"),
        (lambda text: "[" * 100_000, "is damaged: it is not JSON"),
        (lambda text: text.replace('"ms": 4.1', '"ms": "soon"'), "is damaged: an entry is not a measurement"),
        (lambda text: text.replace('"ms": 4.1', '"ms": NaN'), "is damaged: an entry is not a measurement"),
        (lambda text: text.replace('"ms": 4.1', '"s": 4.1'), "is damaged: an entry is not a measurement"),
        (lambda text: text.replace('"entries"', '"results"'), "is damaged: an entry is not a measurement"),
        (lambda text: text.replace(f'"{jax.__version__}"', '"0.4.1"'), "its jax is '0.4.1'"),
        (lambda text: text.replace(f'"{jaxconv.__version__}"', '"0.0.9"'), "its jaxconv is '0.0.9'"),
        (lambda text: text.replace('"platform": "cpu"', '"platform": "tpu"'), "its platform is 'tpu'"),
        (lambda text: text.replace("cores", "hearts"), "its device is "),
        (lambda text: text.replace('"version": 1', '"version": 2'), "its version is 2"),
    ],
)
def test_a_damaged_or_foreign_file_is_ignored_with_one_warning(file, change, complaint):
    remember("fourier")
    changed = change(file.read_text())
    assert changed != file.read_text()
    file.write_text(changed)
    with pytest.warns(UserWarning, match=complaint) as caught:
        assert explained()[0].lowering == "xla_nhwc"
        assert explained()[0].lowering == "xla_nhwc"
    assert len(caught) == 1 and str(caught[0].message).endswith("it is ignored")
    # the file was named by the user, and may be anything
    with pytest.raises(ValueError, match=rf"JAXCONV_TUNED: .*{complaint}.*; name another file, or remove this one"):
        remember("matmul")
    with pytest.raises(ValueError, match="name another file, or remove this one"):
        tuning_cache.forget("cpu")
    assert file.read_text() == changed


def test_a_file_that_cannot_be_read_is_ignored_with_a_warning(file):
    file.mkdir()
    with pytest.warns(UserWarning, match=r"cannot be read: Is a directory; it is ignored"):
        assert explained()[0].lowering == "xla_nhwc"


def test_the_file_in_the_cache_folder_is_named_by_device_and_versions(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXCONV_TUNED")
    monkeypatch.setattr(tuning_cache, "_device", lambda backend: "Some (R) CPU/9000, 2 cores")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    name = f"jaxconv/tuned-cpu-Some-R-CPU-9000-2-cores-jax{jax.__version__}-jaxconv{jaxconv.__version__}.json"
    assert tuning_cache.path("cpu") == tmp_path / name
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for ignored in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert tuning_cache.path("cpu") == tmp_path / "home" / ".cache" / name
    monkeypatch.setattr(tuning_cache, "_device", lambda backend: None)
    assert tuning_cache.path("tpu") is None


def test_a_damaged_file_in_the_cache_folder_is_replaced(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXCONV_TUNED")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tuning_cache.path("cpu")
    path.parent.mkdir()
    path.write_text("{")
    remember("fourier")
    assert explained()[0].lowering == "fourier"
    tuning_cache.reload()


def test_an_empty_variable_turns_the_cache_off(file, monkeypatch):
    remember("fourier")
    monkeypatch.setenv("JAXCONV_TUNED", "")
    tuning_cache.reload()
    assert explained()[0].lowering == "xla_nhwc"
    with pytest.raises(ValueError, match=r"JAXCONV_TUNED is empty; name a file, JAXCONV_TUNED=tuned\.json"):
        jaxconv.tune(LAYER, (2, 12, 3))


def test_winners_are_added_to_those_in_the_file(file):
    remember("fourier")
    tuning_cache.remember({"another": Winner("matmul", 1.0, "xla_nhwc", 2.0)}, "cpu")
    tuning_cache.reload()
    assert {one.lowering for one in tuning_cache.winners("cpu").values()} == {"fourier", "matmul"}
    assert tuning_cache.forget("cpu") == 2
    assert tuning_cache.forget("cpu") == 0
    assert not file.exists()


def test_a_write_that_fails_leaves_the_old_file_and_no_other(file, monkeypatch):
    remember("fourier")
    before = file.read_text()

    def broken(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space left"):
        remember("matmul")
    assert file.read_text() == before
    assert list(file.parent.iterdir()) == [file]
