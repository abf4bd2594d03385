"""The results and the text of ``explain_lowering``."""

import jax.numpy as jnp
import pytest

import jaxconv
from jaxconv.kernels import table


def test_an_explanation_prints_names_reasons_and_costs():
    x, w = jnp.ones((8, 128, 64)), jnp.ones((3, 64, 32))
    how = jaxconv.explain_lowering(x, w, (2,), "SAME", None, None, ("NWC", "WIO", "NWC"), platform="cpu")
    text = repr(how)
    assert text.startswith("forward         xla_nhwc   (6.29 MFLOP, operands and result 352 kB, largest temporary")
    assert all(name in text for name in ("input gradient", "kernel gradient", "matmul"))
    assert how[0].operations == 2 * 8 * 64 * 3 * 64 * 32
    assert "matmul" in how[0].supported
    with jaxconv.lowering("xla"):
        how = jaxconv.explain_lowering(x, w, (2,), "SAME", None, None, ("NWC", "WIO", "NWC"), platform="cpu")
    assert [one.reason for one in how] == ["requested"] * 3


def test_what_is_passed_to_lax_is_refused():
    with pytest.raises(TypeError, match=r"jax\.lax"):
        jaxconv.explain_lowering(jnp.ones((2, 4, 8)), jnp.ones((2, 4, 3)), (1,), "SAME", batch_group_count=2)


def test_each_reason_in_the_table_is_complete():
    # explain_lowering prints the reason of one row only
    assert not [row for row in table.TABLE if row.reason.startswith("the same")]
