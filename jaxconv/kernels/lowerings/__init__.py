"""The lowerings, one file each, and the list of them."""

from jaxconv.kernels.lowering import Lowering
from jaxconv.kernels.lowerings.block_diagonal import BLOCK_DIAGONAL
from jaxconv.kernels.lowerings.exchanged import EXCHANGED
from jaxconv.kernels.lowerings.fourier import FOURIER
from jaxconv.kernels.lowerings.groups_last import GROUPS_LAST
from jaxconv.kernels.lowerings.im2col import IM2COL
from jaxconv.kernels.lowerings.leading_axis import LEADING_AXIS
from jaxconv.kernels.lowerings.matmul import MATMUL
from jaxconv.kernels.lowerings.polyphase import POLYPHASE
from jaxconv.kernels.lowerings.row_correlation import ROW_CORRELATION
from jaxconv.kernels.lowerings.shift_add import SHIFT_ADD
from jaxconv.kernels.lowerings.stacked_taps import STACKED_TAPS
from jaxconv.kernels.lowerings.winograd import WINOGRAD
from jaxconv.kernels.lowerings.xla import XLA
from jaxconv.kernels.lowerings.xla_extra_row import XLA_EXTRA_ROW
from jaxconv.kernels.lowerings.xla_nhwc import XLA_NHWC
from jaxconv.registry import nearest

LOWERINGS: dict[str, Lowering] = {
    lowering.name: lowering
    for lowering in (
        XLA, XLA_NHWC, XLA_EXTRA_ROW, LEADING_AXIS, MATMUL, STACKED_TAPS, IM2COL, SHIFT_ADD, POLYPHASE,
        EXCHANGED, ROW_CORRELATION, BLOCK_DIAGONAL, GROUPS_LAST, WINOGRAD, FOURIER,
    )
}  # fmt: skip


def find_lowering(name: str) -> Lowering:
    """Return the lowering of this name. Raises ValueError for an unknown name."""
    if not isinstance(name, str) or name not in LOWERINGS:
        raise ValueError(f"lowering {name!r} is unknown; {nearest(str(name), LOWERINGS)}")
    return LOWERINGS[name]
