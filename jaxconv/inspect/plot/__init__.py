"""Pictures of what the other modules of this package compute. Each function returns the figure and takes ``ax=``.

Needs matplotlib, which is imported by the first picture. Without ``ax`` a figure is not registered with pyplot: a
notebook shows it once, and a script saves it with ``figure.savefig(path)``.
"""

from jaxconv.inspect.plot.heat import heat

__all__ = ["heat"]
