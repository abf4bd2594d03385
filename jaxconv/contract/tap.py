"""A tap on a forward pass: a function that gets the output of each layer with its path, and may replace it.

Without a tap, a forward pass only reads one context variable.
"""

import collections
import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from jax.extend.core import get_opaque_trace_state

from jaxconv.registry import snake_case

See = Callable[[str, Any, Any], Any]  # (path, output, its mask or None) -> the output to continue with
Forward = TypeVar("Forward", bound=Callable[..., tuple[Any, Any]])

_current: ContextVar["Tap | None"] = ContextVar("tap", default=None)


class _Open(NamedTuple):
    """A layer whose computation has begun, its path, and the number of calls of each layer inside until now."""

    layer: Any
    path: str
    calls: collections.Counter


class Tap:
    """The tap of one forward pass, and the layers that are being computed.

    A path consists of the names of the containers and of the layer, as in ``summary``: "encoder/conv1d", and "" for the
    entire model. The second call of a layer inside one container is "conv1d#2".
    """

    def __init__(self, see: See):
        self.see, self._open = see, list[_Open]()
        self._trace = get_opaque_trace_state(convention="flax")

    @property
    def sees(self) -> bool:
        """Return whether this code is traced together with the tap's owner.

        False inside a ``jit``, ``scan`` or ``vmap`` that was entered later: its tracers would leak, and its cache would
        remember the tap.
        """
        return get_opaque_trace_state(convention="flax") == self._trace

    @contextlib.contextmanager
    def inside(self, layer: Any) -> Iterator[str]:
        """Count the calls inside as calls of ``layer``; yields its path."""
        path = self._path(layer)
        self._open.append(_Open(layer, path, collections.Counter()))
        try:
            yield path
        finally:
            self._open.pop()

    def _path(self, layer: Any) -> str:
        if not self._open:
            return ""
        parent, path, calls = self._open[-1]
        name = next((name for name, child in parent.children.items() if child is layer), snake_case(layer.label))
        calls[name] += 1
        return "/".join(filter(None, [path, name if calls[name] == 1 else f"{name}#{calls[name]}"]))


def tapped(forward: Forward) -> Forward:
    """Decorate ``forward`` of a layer: its output passes through the active tap."""

    @functools.wraps(forward)
    def through(layer: Any, *args: Any, **options: Any) -> tuple[Any, Any]:
        tap = _current.get()
        if tap is None or not tap.sees:
            return forward(layer, *args, **options)
        with tap.inside(layer) as path:
            y, effects = forward(layer, *args, **options)
        return tap.see(path, y, effects.mask), effects

    return through  # type: ignore[return-value]


@contextlib.contextmanager
def tap(see: See) -> Iterator[None]:
    """Pass each layer's output in a forward pass within the context, with its path and its mask, through ``see``.

    The tap belongs to the transformation in which it is opened: open it inside the function that is differentiated.

    >>> def show(path, y, mask):
    ...     print(repr(path), y.shape)
    ...     return y
    >>> model = jaxconv.Sequential([jaxconv.Flatten(), jaxconv.ReLU()])
    >>> with tap(show):
    ...     y = model.apply_fn({}, jnp.ones((1, 2, 3)))
    'flatten' (1, 6)
    're_lu' (1, 6)
    '' (1, 6)
    """
    token = _current.set(Tap(see))
    try:
        yield
    finally:
        _current.reset(token)
