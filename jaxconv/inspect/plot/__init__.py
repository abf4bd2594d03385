"""Pictures of the results of ``jaxconv.inspect``. Each function takes ``ax=`` and returns the figure.

Needs matplotlib, which is imported by the first picture. Without ``ax``, a figure is not registered with pyplot: a
notebook shows it once, and a script saves it with ``figure.savefig(path)``.
"""

from jaxconv.inspect.plot.curves import curves
from jaxconv.inspect.plot.graph import graph
from jaxconv.inspect.plot.heat import heat
from jaxconv.inspect.plot.landscape import loss_surface
from jaxconv.inspect.plot.receptive_field import receptive_field
from jaxconv.inspect.plot.response import response
from jaxconv.inspect.plot.tiles import features, kernels

__all__ = ["curves", "features", "graph", "heat", "kernels", "loss_surface", "receptive_field", "response"]
