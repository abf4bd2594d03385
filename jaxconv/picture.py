"""The figure that notebooks show, not registered with pyplot. Import this module only to draw: it needs matplotlib."""

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that a notebook shows once, as the value of a cell, even if pyplot was imported."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
