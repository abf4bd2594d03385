"""Options of ``jaxconv.inspect.attribute``: each method accepts only its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv.inspect import attribute
from jaxconv.inspect.attribution import METHODS

GIVEN = {"baseline": np.zeros((1, 3)), "steps": 3, "samples": 3, "noise": 0.0, "key": jax.random.key(0)}
X = jnp.array([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0]])


@pytest.mark.parametrize("method", METHODS)
def test_an_option_of_another_method_is_an_error(method):
    for name in GIVEN.keys() - METHODS[method]:
        with pytest.raises(ValueError, match=f"attribute: {name} ") as caught:
            attribute(jnp.square, X, 0, method=method, **{name: GIVEN[name]})
        owners = [other for other, names in METHODS.items() if name in names]
        assert all(repr(one) in str(caught.value) for one in (*owners, method))


@pytest.mark.parametrize("method", METHODS)
def test_the_options_of_a_method_are_accepted(method):
    attribute(jnp.square, X, 0, method=method, **{name: GIVEN[name] for name in METHODS[method]})
