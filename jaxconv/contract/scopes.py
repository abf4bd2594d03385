"""The names of layers in compiled programs, as profiles show them: writing and reading them in JAX's name stacks."""

import contextlib
import re

import jax

_LAYER = re.compile(r"(\(?)layer\[([^\]]*)\]")  # after a bracket: the root of a stack, inside a transformation


def layer_scope(name: str) -> contextlib.AbstractContextManager:
    """Return a context in which operations are named after a layer: ``layer[conv1d]``."""
    return jax.named_scope(f"layer[{name}]")


def layer_path(name_stack: str) -> str:
    """Return the path of the innermost layer that an operation belongs to, as in ``summary``, or "" if there is none.

    >>> layer_path("jit(loss)/transpose(jvp(layer[encoder]))/layer[conv1d]/reduce_sum")
    'encoder/conv1d'
    """
    path: list[str] = []
    for bracket, name in reversed(_LAYER.findall(name_stack)):
        path.insert(0, name)
        if bracket:
            break
    return "/".join(path)
