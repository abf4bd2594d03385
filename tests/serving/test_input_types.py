"""Models with a float and an integer input, compiled and exported: each input keeps its own type."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.serving import compile, export, load_exported

pytest.importorskip("flatbuffers")
# an integer type drops the fractions of the values, bfloat16 has no 257 among the ids
VALUES, IDS = np.array([[0.25, -1.5], [3.75, 1e-3]], np.float32), np.array([[1, 257], [2, 299]], np.int32)
SHAPES = [(None, 2), (None, 2)]


def model(dtype="int32"):
    x, ids = jc.Input((2,), name="x"), jc.Input((2,), dtype=dtype, name="ids")
    rows = jc.Flatten()(jc.Embedding(300, 3)(ids))
    return jc.Model([x, ids], jc.Concatenate()([x, rows]), name="mixed")


def expected(params):
    (table,) = (leaf for leaf in jax.tree.leaves(params) if leaf.shape == (300, 3))
    return np.concatenate([VALUES, np.asarray(table)[IDS].reshape(2, 6)], axis=1)


@pytest.fixture(scope="module")
def declared():
    return model().init(jax.random.key(0), SHAPES)


def served(how, params, apply_fn, tmp_path, **options):
    """Return the compiled or the exported and reloaded model."""
    if how == "compile":
        return compile(apply_fn, params, [[(2, 2), (2, 2)]], **options)
    path = tmp_path / "m.jaxexport"
    export(apply_fn, params, path, SHAPES, platforms=["cpu"], **options)
    return load_exported(path)


both = pytest.mark.parametrize("how", ["compile", "export"])


@both
def test_inputs_have_the_types_that_the_model_declares(how, declared, tmp_path):
    run = served(how, *declared, tmp_path)
    assert list(run.dtype) == [jnp.float32, jnp.int32]
    np.testing.assert_array_equal(run([VALUES, IDS]), expected(declared[0]))
    np.testing.assert_array_equal(run([VALUES.astype(np.float64), IDS.astype(np.int64)]), expected(declared[0]))
    with pytest.raises(ValueError, match="int32"):  # a fraction is not an id
        run([VALUES, VALUES])


@both
def test_each_input_can_be_given_its_type(how, tmp_path):
    params, apply_fn = model(dtype=None).init(jax.random.key(0), SHAPES)
    run = served(how, params, apply_fn, tmp_path, dtype=["float32", "int16"])
    assert list(run.dtype) == [jnp.float32, jnp.int16]
    np.testing.assert_array_equal(run([VALUES, IDS]), expected(params))


@both
def test_one_float_type_leaves_integer_inputs_as_they_are_declared(how, declared, tmp_path):
    run = served(how, *declared, tmp_path, dtype="bfloat16")
    assert list(run.dtype) == [jnp.bfloat16, jnp.int32]
    np.testing.assert_allclose(run([VALUES, IDS]), expected(declared[0]), rtol=2**-8)  # that of bfloat16


@both
@pytest.mark.parametrize(("dtype", "error"), [("int32", ValueError), (["float32"], ValueError), ("word", TypeError)])
def test_types_that_do_not_fit_the_inputs_are_errors(how, dtype, error, declared, tmp_path):
    with pytest.raises(error, match="dtype"):
        served(how, *declared, tmp_path, dtype=dtype)


@both
@pytest.mark.parametrize(
    "arguments, facts",
    [
        (lambda layer, apply_fn, params: (params, apply_fn), ["apply_fn", "dict"]),
        (lambda layer, apply_fn, params: (params, layer), ["apply_fn", "dict"]),
        (lambda layer, apply_fn, params: (apply_fn, layer), ["params", "Model"]),
        (lambda layer, apply_fn, params: (apply_fn, apply_fn), ["params", "Apply"]),
        (lambda layer, apply_fn, params: ((params, apply_fn), params), ["apply_fn", "tuple"]),
        (lambda layer, apply_fn, params: (apply_fn, "path"), ["params", "str"]),
    ],
)
def test_swapped_arguments_are_named(how, declared, arguments, facts, tmp_path):
    given, shapes = arguments(model(), declared[1], declared[0]), [(2, 2), (2, 2)]
    with pytest.raises(TypeError) as error:
        compile(*given, [shapes]) if how == "compile" else export(*given, tmp_path / "m.jaxexport", shapes)
    assert all(fact in str(error.value) for fact in [f"{how}(apply_fn, params", *facts]), error.value
    assert len(str(error.value)) < 200


@both
def test_a_layer_stands_for_its_apply_fn(how, declared, tmp_path):
    run = served(how, declared[0], model(), tmp_path)
    np.testing.assert_array_equal(run([VALUES, IDS]), expected(declared[0]))


@both
@pytest.mark.parametrize("shapes", [(2, 2), [(2, 2)] * 3, [(2, 2), (2, 3)]], ids=repr)
def test_shapes_that_are_not_those_of_the_inputs_name_the_inputs(how, declared, shapes, tmp_path):
    with pytest.raises(ValueError, match=r"x.*ids|'ids' has shape \(2, 3\)") as error:
        compile(declared[1], declared[0], [shapes]) if how == "compile" else export(
            declared[1], declared[0], tmp_path / "m.jaxexport", shapes
        )
    assert "mixed" in str(error.value)
