"""The standard form of convolutions."""

import itertools

import jax
import numpy as np
import pytest

from jaxconv.kernels.maps import SIGNATURES
from jaxconv.kernels.problem import permuted, standard_form
from tests.support import reference


@pytest.mark.parametrize("name", SIGNATURES)
def test_arrays_have_the_stated_shapes_in_standard_form_and_back(name):
    for seed in range(40):
        _, geometry, outer = reference.random_standard_geometry(seed)
        a, b, result = (jax.ShapeDtypeStruct(reference.shape(v, geometry, outer), np.float32) for v in SIGNATURES[name])
        form = standard_form(name, geometry, a, b)
        if form is None:  # an empty output
            continue
        first, second, third = SIGNATURES[form.map]
        arranged = jax.eval_shape(form.arrange, a, b)
        assert [v.shape for v in arranged] == [form.shapes[first], form.shapes[second]]
        restored = jax.eval_shape(form.restore, jax.ShapeDtypeStruct(form.shapes[third], np.float32))
        assert restored.shape == result.shape


@pytest.mark.parametrize("rank", range(1, 6))
def test_permuted_arrays_are_those_of_numpy(rank):
    array = np.random.default_rng(0).random((2, 3, 1, 4, 5)[:rank], np.float32)
    for order in [*itertools.permutations(range(rank))][:: 1 if rank < 5 else 7]:
        np.testing.assert_array_equal(permuted(jax.numpy.asarray(array), order), array.transpose(order))
