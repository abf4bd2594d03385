"""SimpleRNN, LSTM and GRU: recurrent layers with Keras's arguments."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from jax import Array

from jaxconv.contract import layers, register
from jaxconv.layers.recurrent import LongShortTerm, Recur, Recurrent, States


@register(layers)
class SimpleRNN(Recurrent):
    """Repeat a dense layer over the steps: ``h = activation(x @ kernel + bias + h @ recurrent_kernel)``.

    Arguments, shapes and errors are those of :class:`LSTM`, without ``recurrent_activation`` and ``unit_forget_bias``.

    >>> SimpleRNN(4, return_sequences=True).output_shape((None, 10, 3))
    (None, 10, 4)
    """

    units: int
    activation: Any = "tanh"
    use_bias: bool = True
    kernel_initializer: Any = "glorot_uniform"
    recurrent_initializer: Any = "orthogonal"
    bias_initializer: Any = "zeros"
    kernel_regularizer: Any = None
    recurrent_regularizer: Any = None
    bias_regularizer: Any = None
    activity_regularizer: Any = None
    kernel_constraint: Any = None
    recurrent_constraint: Any = None
    bias_constraint: Any = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    unroll: bool = False
    seed: int | None = None
    zero_output_for_mask: bool = dataclasses.field(default=False, kw_only=True)

    gates: ClassVar[str] = "h"

    def cell(self, x: Sequence[Array], states: States, recur: Recur) -> States:
        return (self._activate(x[0] + recur(states[0])[0]),)


@register(layers)
class LSTM(LongShortTerm):
    """Run a long short-term memory over the steps of a sequence.

    The weights have four parts of ``units`` columns, in the order i, f, n, o. Each part computes ``x @ kernel + bias +
    h @ recurrent_kernel``. With ``a`` for ``activation`` and ``g`` for ``recurrent_activation``, the cell state is
    ``c = g(f) * c + g(i) * a(n)`` and the output is ``h = g(o) * a(c)``. Keras's layer, without ``stateful``
    (:func:`jaxconv.stream` runs a sequence in parts). Keras's ``initial_state`` follows the sequence in a list of
    inputs: ``layer([x, h, c])``.

    A masked step leaves the states unchanged, as in Keras, so that a padded sequence has the outputs of the unpadded
    one. Differs deliberately: with ``go_backwards`` the output's mask is in the order of the output; without
    ``return_sequences`` the output is that of the last unmasked step, also with ``zero_output_for_mask``.

    Args:
        units: number of output channels.
        activation, recurrent_activation: name, function or None; for candidate and output, and for the gates.
        use_bias: whether to add a bias.
        kernel_*, recurrent_*, bias_*, activity_regularizer: initializer, regularizer and constraint of each weight, as
            in :class:`~jaxconv.Conv1D`.
        unit_forget_bias: whether the bias of the forget gate starts at 1.
        dropout, recurrent_dropout: fraction of the inputs and of the state dropped in training, the same entries at
            each step; with ``recurrent_dropout`` drawn for each gate.
        seed: folded into the caller's key; None leaves the key unchanged.
        return_sequences: whether to return the outputs of all steps, or only that of the last step.
        return_state: whether the output is a list: the output and the states after the last step, ``[y, h, c]``.
        go_backwards: whether to begin with the last step; the output is in the order in which it is computed.
        stateful: must be False; True raises ValueError.
        unroll, use_cudnn: accepted without effect, because XLA decides. ``use_cudnn=True`` raises ValueError.
        zero_output_for_mask: whether the output at masked steps is 0 instead of that of the previous step.

    Shapes: (batch, time, channels) -> (batch, units), with ``return_sequences`` (batch, time, units).

    Params:
        kernel: (channels, 4 units), ``kernel_initializer``. recurrent_kernel: (units, 4 units),
            ``recurrent_initializer``. bias: (4 units,), ``bias_initializer``; absent without ``use_bias``.

    Raises:
        ValueError: ``stateful=True``; an option or an input that is not valid; training without a key.

    Source: Hochreiter and Schmidhuber 1997; https://keras.io/api/layers/recurrent_layers/lstm/

    >>> params, apply_fn = LSTM(4, return_sequences=True).init(jax.random.key(0), (None, 10, 3))
    >>> apply_fn(params, jnp.ones((2, 10, 3))).shape
    (2, 10, 4)
    """

    units: int
    activation: Any = "tanh"
    recurrent_activation: Any = "sigmoid"
    use_bias: bool = True
    kernel_initializer: Any = "glorot_uniform"
    recurrent_initializer: Any = "orthogonal"
    bias_initializer: Any = "zeros"
    unit_forget_bias: bool = True
    kernel_regularizer: Any = None
    recurrent_regularizer: Any = None
    bias_regularizer: Any = None
    activity_regularizer: Any = None
    kernel_constraint: Any = None
    recurrent_constraint: Any = None
    bias_constraint: Any = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    seed: int | None = None
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    unroll: bool = False
    use_cudnn: Any = "auto"
    zero_output_for_mask: bool = dataclasses.field(default=False, kw_only=True)


@register(layers)
class GRU(Recurrent):
    """Run a gated recurrent unit over the steps of a sequence.

    With the update gate ``z``, the reset gate ``r`` and the candidate ``n``, the output is ``h = z * h + (1 - z) * n``.
    With ``reset_after``, the reset gate multiplies the product, ``r * (h @ recurrent_kernel)``; without it, as in the
    paper, it multiplies the state, ``(r * h) @ recurrent_kernel``. Arguments, shapes and errors are those of
    :class:`LSTM`, without ``unit_forget_bias``.

    Args:
        reset_after: which of the two forms to use; if True, the product with the state has its own bias.

    Params:
        kernel: (channels, 3 units). recurrent_kernel: (units, 3 units). bias: (2, 3 units) with ``reset_after``, or
            (3 units,); absent without ``use_bias``.

    Source: Cho et al. 2014, https://arxiv.org/abs/1406.1078

    >>> params, apply_fn = GRU(4).init(jax.random.key(0), (None, 10, 3))
    >>> apply_fn(params, jnp.ones((2, 10, 3))).shape
    (2, 4)
    """

    units: int
    activation: Any = "tanh"
    recurrent_activation: Any = "sigmoid"
    use_bias: bool = True
    kernel_initializer: Any = "glorot_uniform"
    recurrent_initializer: Any = "orthogonal"
    bias_initializer: Any = "zeros"
    kernel_regularizer: Any = None
    recurrent_regularizer: Any = None
    bias_regularizer: Any = None
    activity_regularizer: Any = None
    kernel_constraint: Any = None
    recurrent_constraint: Any = None
    bias_constraint: Any = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    seed: int | None = None
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    unroll: bool = False
    reset_after: bool = True
    use_cudnn: Any = "auto"
    zero_output_for_mask: bool = dataclasses.field(default=False, kw_only=True)

    gates: ClassVar[str] = "zrn"

    @property
    def bias_rows(self) -> int:
        return 2 if self.reset_after else 1

    def cell(self, x: Sequence[Array], states: States, recur: Recur) -> States:
        h = states[0]
        if self.reset_after:
            hz, hr, hn = recur(h)
            candidate = x[2] + self._gate(x[1] + hr) * hn
        else:
            hz, hr = recur(h, "zr")
            candidate = x[2] + recur(self._gate(x[1] + hr) * h, "n")[0]
        z = self._gate(x[0] + hz)
        return (z * h + (1 - z) * self._activate(candidate),)
