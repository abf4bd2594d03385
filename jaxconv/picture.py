"""The figure that notebooks show, unknown to pyplot. Imports matplotlib; is imported when a picture is drawn."""

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that a notebook shows once, as the value of a cell, whether pyplot was imported or not."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
