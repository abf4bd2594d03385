"""Models compiled ahead of time and exported: the same results for any batch; errors for bad files and inputs."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.files.archive import write_archive
from jaxconv.files.errors import FileError
from jaxconv.serving import compile, export, load_exported
from tests.support.messages import facts

pytest.importorskip("flatbuffers")
NET = jc.Sequential(
    [
        jc.Conv1D(4, 3, padding="causal", activation="gelu"),
        jc.BatchNormalization(),
        jc.SeparableConv1D(4, 2, padding="same"),
        jc.Conv1DTranspose(3, 2, 2),
        jc.MaxPooling1D(2),
        jc.Flatten(),
        jc.Dense(2, activation="softmax"),
    ]
)
X = np.random.default_rng(0).normal(size=(21, 8, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def trained():
    return NET.init(jax.random.key(0), (None, 8, 2))


@pytest.fixture(scope="module")
def compiled(trained):
    params, apply_fn = trained
    return compile(apply_fn, params, [(8, 8, 2), (1, 8, 2)])


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "net.jaxexport"
    export(trained[1], trained[0], path, (None, 8, 2))
    return path


# -- compiled


@pytest.mark.few(3)
@pytest.mark.parametrize("batch", [0, 1, 2, 7, 8, 9, 21])
def test_any_batch_gives_the_numbers_of_the_model(trained, compiled, batch):
    want = trained[1](trained[0], X)[:batch]  # a batch of 0 has no mean, but it has a shape
    got = compiled(X[:batch])
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)  # a batch of another size sums in another order


def test_a_batch_of_jax_s_and_of_another_type_is_taken(trained, compiled):
    want = trained[1](trained[0], X[:3])
    np.testing.assert_allclose(compiled(jnp.asarray(X[:3])), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(compiled(X[:3].astype(np.float64)), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(compiled(jnp.asarray(X[:3], jnp.bfloat16)), want, atol=0.1)
    assert compiled(np.ones((2, 8, 2), int)).shape == (2, 2)


def test_an_input_on_other_devices_is_moved_to_those_of_the_parameters(trained):
    params, apply_fn = trained
    want, devices = apply_fn(params, X[:2]), jax.devices()
    mesh = jax.sharding.Mesh(np.array(devices), ("d",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    for home in (devices[0], everywhere):
        run = compile(apply_fn, jax.device_put(params, home), (2, 8, 2))
        for place in (devices[0], devices[3], everywhere):
            got = run(jax.device_put(X[:2], place))
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
            assert run(jax.device_put(X[:1], place)).shape == (1, 2)


def test_nothing_is_compiled_after_the_model_was(trained):
    traced = []

    def counted(params, x):
        traced.append(x.shape)
        return trained[1](params, x)

    fast = compile(counted, trained[0], [(1, 8, 2), (4, 8, 2)])
    for batch in (1, 2, 4, 9):
        fast(X[:batch])
    assert traced == [(1, 8, 2), (4, 8, 2)]


def test_it_says_what_it_was_compiled_for(compiled):
    assert compiled.shapes == ((1, 8, 2), (8, 8, 2)) and compiled.dtype == jnp.float32
    assert repr(compiled) == ("Compiled(name='Sequential', shapes=((1, 8, 2), (8, 8, 2)), dtype=dtype('float32'))")


def test_one_shape_is_enough_and_another_type_is_possible(trained):
    fast = compile(trained[1], trained[0], (2, 8, 2), dtype="bfloat16")
    assert fast.shapes == ((2, 8, 2),) and fast(X[:3]).shape == (3, 2)


def test_several_inputs_and_outputs_are_padded_alike():
    x, y = jc.Input((4,), name="x"), jc.Input((3,), name="y")
    model = jc.Model({"x": x, "y": y}, [jc.Concatenate()([x, y]), jc.Dense(2)(x)])
    params, apply_fn = model.init(jax.random.key(0))
    fast = compile(apply_fn, params, {"x": (4, 4), "y": (4, 3)})
    given = {"x": X[:6, :4, 0], "y": X[:6, :3, 1]}
    for got, want in zip(fast(given), apply_fn(params, given), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    with pytest.raises(ValueError, match=r"got input of shape \[\(6, 4\), \(5, 3\)\]"):
        fast({"x": given["x"], "y": given["y"][:5]})
    with pytest.raises(ValueError, match="got input of shape"):
        fast(given["x"])
    listed = jc.Model([x, y], jc.Concatenate()([x, y]))
    fast = compile(listed.apply_fn, {}, [[(1, 4), (1, 3)], [(2, 4), (2, 3)]])
    assert fast([given["x"], given["y"]]).shape == (6, 7)


def test_inputs_that_were_not_compiled_for_are_named(compiled):
    with pytest.raises(
        ValueError, match=r"Sequential: got input of shape \(3, 9, 2\); it was compiled for \(1, 8, 2\) or \(8, 8, 2\)"
    ):
        compiled(np.ones((3, 9, 2), np.float32))
    for wrong in (np.float32(1), np.ones((8, 2), np.float32)):
        with pytest.raises(ValueError, match="got input of shape"):
            compiled(wrong)
    with pytest.raises(TypeError, match=r"complex64.*float32"):
        compiled(np.ones((1, 8, 2), np.complex64))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([], "input_shapes is empty"),
        ([(1, 8, 2), (2, 9, 2)], "must differ in the batch size, and only in it"),
        ([(1, 8, 2), (1, 8, 2)], "must differ in the batch size"),
        ((None, 8, 2), r"\(None, 8, 2\)"),
        ((0, 8, 2), "a batch of at least 1"),
        (3, "input_shapes=3"),
        ([3.5], "3.5"),
        ((1, 8), "rank 2"),
    ],
)
def test_shapes_that_cannot_be_compiled_for_are_named(trained, shapes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        compile(trained[1], trained[0], shapes)


# -- exported


@pytest.mark.parametrize("batch", [1, 21])
def test_an_exported_model_runs_for_any_batch(trained, exported, batch):
    loaded = load_exported(exported)
    np.testing.assert_allclose(loaded(X[:batch]), trained[1](trained[0], X[:batch]), rtol=1e-5, atol=1e-6)
    assert loaded.input_shape == (None, 8, 2) and loaded.platforms == ("cpu", "cuda", "tpu")
    assert repr(loaded).startswith("Exported(name='Sequential', input_shape=(None, 8, 2), dtype=dtype('float32')")


def test_the_file_runs_without_jaxconv(trained, exported, tmp_path):
    np.save(tmp_path / "x.npy", X[:3])
    code = f"""
import sys, numpy as np, jax.export
with np.load({str(exported)!r}) as file:
    program = bytearray(file["program"].tobytes())
y = jax.export.deserialize(program).call(np.load({str(tmp_path / "x.npy")!r}))
np.save({str(tmp_path / "y.npy")!r}, y)
assert not [name for name in sys.modules if name.startswith("jaxconv")]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), trained[1](trained[0], X[:3]), rtol=1e-5, atol=1e-6)


def program_of(path):
    with np.load(path) as file:
        return file["program"]


def test_the_program_calls_nothing_that_only_one_machine_has(exported):
    program = jax.export.deserialize(bytearray(program_of(exported).tobytes()))
    calls = set(re.findall(r"custom_call @(\w+)", program.mlir_module()))
    assert calls <= {"shape_assertion"}  # JAX's own check of symbolic shapes, gone before it runs


def test_programs_that_run_code_of_the_machine_are_refused(exported, tmp_path):
    def calls_python(x):
        return jax.ffi.ffi_call("xla_ffi_python_cpu_callback", jax.ShapeDtypeStruct(x.shape, x.dtype))(x)

    def solves(params, x):
        return jnp.linalg.inv(x)

    checks = [jax.export.DisabledSafetyCheck.custom_call("xla_ffi_python_cpu_callback")]
    program = jax.export.export(jax.jit(calls_python), disabled_checks=checks)(np.ones(3, "float32"))
    header = {"format": "jaxconv exported model", "version": 2, "name": "x", "input_shape": [3], "dtype": "float32"}
    content = np.frombuffer(program.serialize(), np.uint8)
    write_archive(tmp_path / "m", header | {"jax": jax.__version__}, {"program": content})
    with pytest.raises(FileError, match=facts(tmp_path / "m", "xla_ffi_python_cpu_callback")):
        load_exported(tmp_path / "m")
    with pytest.raises(ValueError, match="custom call"):
        export(solves, {}, tmp_path / "n", (3, 3), platforms=["cpu"])
    assert not (tmp_path / "n").exists()


def test_lengths_can_be_symbolic_too(tmp_path):
    layer = jc.Sequential([jc.Conv1D(3, 3, padding="same"), jc.GlobalAveragePooling1D()])
    params, apply_fn = layer.init(jax.random.key(0), (None, None, 2))
    export(apply_fn, params, tmp_path / "m", (None, None, 2), platforms=["cpu"])
    loaded = load_exported(tmp_path / "m")
    for length in (3, 8):
        np.testing.assert_allclose(loaded(X[:2, :length]), apply_fn(params, X[:2, :length]), rtol=1e-5, atol=1e-6)


def test_several_inputs_share_the_batch(tmp_path):
    x, y = jc.Input((4,), name="x"), jc.Input((4,), name="y")
    model = jc.Model([x, y], {"sum": jc.Add()([x, y])})
    export(model.apply_fn, {}, tmp_path / "m", [(None, 4), (None, 4)])
    loaded = load_exported(tmp_path / "m")
    assert loaded.input_shape == [(None, 4), (None, 4)]
    assert loaded([X[:2, :4, 0], X[:2, :4, 1]])["sum"].shape == (2, 4)


def test_another_shape_than_was_exported_is_named(exported):
    with pytest.raises(
        ValueError, match=r"was exported for input of shape \(None, 8, 2\) on cpu, cuda, tpu; got input"
    ):
        load_exported(exported)(np.ones((2, 9, 2), np.float32))


def test_what_cannot_be_exported_is_named(trained, tmp_path):
    with pytest.raises(
        ValueError, match=r"platforms=\['abacus'\] is not valid; give a list of some of: cpu, cuda, tpu"
    ):
        export(trained[1], trained[0], tmp_path / "m", (None, 8, 2), platforms=["abacus"])
    with pytest.raises(ValueError, match=r"Sequential, exported for input of shape \(None, 9, 2\): "):
        export(trained[1], trained[0], tmp_path / "m", (None, 9, 2))
    with pytest.raises(TypeError, match="shape 3 "):
        export(trained[1], trained[0], tmp_path / "m", 3)
    with pytest.raises(FileError, match="cannot be written"):
        export(trained[1], trained[0], tmp_path / "no" / "m", (None, 8, 2))
    assert not list(tmp_path.iterdir())


def test_truncated_mutated_and_foreign_files_are_named(exported, tmp_path):
    whole, path = exported.read_bytes(), tmp_path / "m"
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(damaged) if rng.integers(2) else whole[: rng.integers(len(whole))])
        try:
            load_exported(path)
        except FileError as error:
            assert str(path) in str(error)
    path.unlink()
    with pytest.raises(FileError, match="No such file"):
        load_exported(path)
    header = {"format": "jaxconv exported model", "version": 1}
    for more, program in [({}, b"junk"), ({}, b""), ({"name": "x", "dtype": "float32", "input_shape": [2]}, None)]:
        content = program_of(exported) if program is None else np.frombuffer(program, np.uint8)
        write_archive(path, {**header, **more}, {"program": content})
        with pytest.raises(FileError, match="program"):
            load_exported(path)


def test_the_missing_package_is_named(monkeypatch, trained, tmp_path):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    for call in (lambda: export(trained[1], trained[0], tmp_path / "m", (None, 8, 2)), lambda: load_exported("m")):
        with pytest.raises(ImportError, match=r"pip install flatbuffers"):
            call()
