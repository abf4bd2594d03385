"""The summary of a stream: each row equals the properties of the stream of the layers up to it."""

import jax
import pytest

import jaxconv as jc

LAYERS = [
    jc.Conv1D(6, 3, 2, "same"),
    jc.Conv1DTranspose(4, 3, 2, "same"),
    jc.ZeroPadding1D((2, 0)),
    jc.DepthwiseConv1D(3),
    jc.MaxPooling1D(3),
]


@pytest.mark.parametrize("count", range(1, len(LAYERS) + 1))
def test_each_row_is_the_total_of_the_layers_up_to_it(count):
    rows = jc.stream(jc.Sequential(LAYERS), (None, None, 2)).summary()
    up_to = jc.stream(jc.Sequential(LAYERS[:count]), (None, None, 2))
    row, whole = rows[count], rows[0].block
    assert row.block == up_to.ratio.denominator and row.receptive_field == up_to.receptive_field
    assert max(row.delay, 0) == up_to.delay  # a result of a stream is not early
    assert row.flush == -(-up_to.flush // whole) * whole
    assert sum(one.multiply_adds for one in rows[1 : count + 1]) == up_to.multiply_adds * (whole // up_to.block)


def test_the_rows_add_up_to_the_state_and_name_each_call():
    x = jc.Input((None, 3))
    layer = jc.Conv1D(3, 3, padding="same", name="twice")
    model = jc.Model(x, {"sum": jc.Add(name="sum")([layer(layer(x)), x]), "mean": jc.GlobalAveragePooling1D()(x)})
    running = jc.stream(model, pooling="cumulative")
    total, *rows = running.summary()
    assert [row.name for row in rows] == ["twice", "twice#1", "sum", "global_average_pooling1d"]
    # twice: 2 steps of 3 numbers each; the sum: x, 2 steps late; the mean: 3 totals and a count; 2 counters
    assert [row.state_bytes for row in rows] == [24, 24, 24, 16] and total.state_bytes == 96 == running.state_bytes
    assert total.state_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(running.init(1)))
    assert total.output == {"mean": (None, None, 3), "sum": (None, None, 3)}
    assert (total.delay, total.flush, total.receptive_field, total.multiply_adds) == (2, 2, None, 54)
    text = str(running.summary()).splitlines()
    assert "state bytes" in text[0] and "receptive field" in text[0]
    assert text[-1].split() == ["total", "1", "2", "2", "-", "96", "54"]
    assert repr(running.summary()).startswith("<StreamSummary of") and running.input_shape == (None, None, 3)
