"""Functions of arrays in a tf.keras graph (TFOpLambda, SlicingOpLambda, TensorFlowOpLayer): name and arguments of each.

Knows configs, and not which layers compute the functions.
"""

import re
from collections.abc import Collection
from typing import Any

from jaxconv.files.keras.calls import Tensor
from jaxconv.registry import snake_case

LAMBDAS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")
_OPTIONS = {  # TensorFlow's option -> Keras's
    **{"perm": "axes", "paddings": "pad_width", "shape": "newshape", "alpha": "negative_slope"},
    **{"clip_value_min": "x_min", "clip_value_max": "x_max"},
}


def read_lambda(
    class_name: str, config: dict[str, Any], call: Any, names: Collection[str]
) -> tuple[str | None, list, dict[str, Any]]:
    """Return TensorFlow's name of the function, its arguments in order, and its other options.

    call: the only one of its ``inbound_nodes``. names: of all layers in the graph, by which references are known.
    """
    if class_name == "TensorFlowOpLayer":
        op = re.search(r'op: "(\w+)"', str(config.get("node_def")))
        args: list = [_argument(one, names) for one in call]
        for place, value in sorted((config.get("constants") or {}).items(), key=lambda pair: int(pair[0])):
            args.insert(int(place), value)
        return op and snake_case(op[1]), args, {}
    single = isinstance(call[0], str)
    first = [_argument(one, names) for one in ([call] if single else call)]
    last = call if single else call[0]
    options = {key: _argument(value, names) for key, value in (last[3] if len(last) > 3 else {}).items()}
    args = [first[0] if single else first, *([options.pop("y")] if "y" in options else [])]
    options = {_OPTIONS.get(key, key): value for key, value in options.items() if key != "name"}
    return str(config.get("function", "")).rpartition(".")[2], args, options


def _argument(value: Any, names: Collection[str]) -> Any:
    """Return a tensor or a constant; tf.keras may write a constant in the form of a tensor."""
    if not isinstance(value, list) or len(value) < 3:
        return value
    if value[0] == "_CONSTANT_VALUE":
        return value[2]
    return Tensor(value[:3]) if isinstance(value[0], str) and value[0] in names else value
