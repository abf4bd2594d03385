"""jaxconv behind the surface of Keras 3: what Keras's own test modules find in place of ``layers``, ``knn``, ...

A stand-in layer keeps its weights in Keras variables and hands them to jaxconv's pure functions at each call; a
symbolic call adds a node to jaxconv's graph. Nothing is computed here. Knows no test case.
"""

import contextlib
import functools
import inspect
import types
from typing import Any

import jax
import numpy as np
from keras_oracle import keras

import jaxconv
from jaxconv import Input, Layer, SymbolicTensor
from keras_suite.messages import keras_words

KerasTensor, Variable = keras.KerasTensor, keras.Variable
PATHS: Any = jax.tree_util.tree_flatten_with_path


class Symbol(KerasTensor):
    """A KerasTensor that remembers jaxconv's symbolic tensor."""

    def __init__(self, symbolic: SymbolicTensor, dtype: Any = "float32"):
        super().__init__(symbolic.shape, dtype=dtype)
        self.symbolic = symbolic


def symbolic(x: Any) -> Any:
    """Give jaxconv's symbolic tensors for Keras's: those remembered, or new inputs."""
    make = lambda t: getattr(t, "symbolic", None) or Input(batch_shape=t.shape)  # noqa: E731
    return jax.tree.map(lambda t: make(t) if isinstance(t, KerasTensor) else t, x, is_leaf=is_leaf)


def is_leaf(x: Any) -> bool:
    return isinstance(x, KerasTensor | Variable)


def is_symbolic(x: Any) -> bool:
    return any(isinstance(leaf, KerasTensor) for leaf in jax.tree.leaves(x, is_leaf=is_leaf))


def arrays(x: Any) -> Any:
    """Give JAX's arrays for Keras's variables."""
    return jax.tree.map(lambda leaf: leaf.value if isinstance(leaf, Variable) else leaf, x, is_leaf=is_leaf)


def unwrap(x: Any) -> Any:
    """Give jaxconv's layer for a stand-in, in lists too."""
    return [unwrap(part) for part in x] if isinstance(x, list) else getattr(x, "layer", x)


class StandIn:
    """A layer as Keras has it, with state, around one of jaxconv's. Subclasses say which: see ``stand_in``."""

    layer_class: Any = None

    def __init__(self, *args: Any, **kwargs: Any):
        with keras_words():
            self.layer = self.layer_class(*map(unwrap, args), **{name: unwrap(a) for name, a in kwargs.items()})
        self.weights: list[Variable] = []
        self.paths: dict[str, Variable] = {}
        self.tree: Any = None
        self.calls = 0
        self.penalties: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        paths = self.__dict__.get("paths", {})
        if name in paths:
            return paths[name]
        if name.startswith("__") or "layer" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.layer, name)

    @property
    def built(self) -> bool:
        return self.tree is not None

    def build(self, input_shape: Any) -> None:
        """Make the weights: a Keras variable for each leaf of params."""
        with keras_words():
            params, self.apply_fn = self.layer.init(jax.random.key(0), as_shapes(input_shape))
        leaves, self.tree = PATHS(params)
        fixed = {path for path, _ in PATHS(self.apply_fn.split(params)[1])[0]}
        self.weights = [Variable(v, trainable=path not in fixed, name=str(path[-1].key)) for path, v in leaves]
        self.paths = {str(path[-1].key): w for (path, _), w in zip(leaves, self.weights, strict=True)}
        for leaf, prefix in self.layer.leaves.items():
            if leaf in self.paths:
                self.paths[leaf].constraint = getattr(self.layer, f"{prefix}_constraint", None)

    @property
    def params(self) -> Any:
        """Give jaxconv's params, from the variables as they are now."""
        return jax.tree.unflatten(self.tree, [weight.value for weight in self.weights])

    @property
    def trainable_weights(self) -> list[Variable]:
        return [weight for weight in self.weights if weight.trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        return [weight for weight in self.weights if not weight.trainable]

    trainable_variables, non_trainable_variables = trainable_weights, non_trainable_weights

    @property
    def losses(self) -> list[Any]:
        """List the penalties: one for each regularized weight, then those of the calls."""
        entries = [(leaf, getattr(self.layer, f"{prefix}_regularizer", None)) for leaf, prefix in self.leaves.items()]
        own = [entry(self.paths[leaf].value) for leaf, entry in entries if entry is not None and leaf in self.paths]
        return own + self.penalties

    def __call__(self, x: Any, training: bool = False) -> Any:
        x = [*x] if isinstance(x, tuple) else x
        if is_symbolic(x):
            if not self.built:
                self.build(jax.tree.map(lambda t: t.shape, x, is_leaf=is_leaf))
            with keras_words():
                out = self.layer(symbolic(x))
            return jax.tree.map(
                lambda t: Symbol(t, self.compute_dtype), out, is_leaf=lambda t: isinstance(t, SymbolicTensor)
            )
        x = jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, np.generic) else leaf, arrays(x))
        if not self.built:
            self.build(x if not isinstance(x, list) else [np.shape(part) for part in x])
        self.calls += 1
        key = jax.random.key(self.calls)
        with keras_words():
            y, effects = self.apply_fn.forward(self.params, x, train=bool(training), key=key)
        if getattr(self.layer, "activity_regularizer", None) is not None:
            self.penalties = [effects.penalty]
        for (path, value), weight in zip(PATHS(self.params)[0], self.weights, strict=True):
            new = functools.reduce(lambda tree, step: None if tree is None else tree.get(step.key), path, effects.fixed)
            if new is not None and value is not new:
                weight.assign(new)
        return y

    call = __call__

    @property
    def compute_dtype(self) -> str:
        return self.layer.policy.compute.name

    variable_dtype = property(lambda self: self.layer.policy.variable.name)
    dtype_policy = property(lambda self: keras.dtype_policies.get(self.layer.policy.name))
    autocast = True

    def compute_output_shape(self, input_shape: Any) -> Any:
        with keras_words():
            return self.layer.output_shape(self.layer.read_shape(as_shapes(input_shape)))

    def compute_output_spec(self, x: Any) -> Any:
        return self(x)

    def get_config(self) -> dict[str, Any]:
        return self.layer.get_config()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "StandIn":
        made = cls.__new__(cls)
        StandIn.adopt(made, cls.layer_class.from_config(config))
        return made

    def adopt(self, layer: Layer) -> None:
        """Become a stand-in for a layer that is already there."""
        self.weights, self.paths, self.tree, self.calls, self.penalties = [], {}, None, 0, []
        self.layer = layer

    def predict(self, x: Any, **_: Any) -> np.ndarray:
        return np.asarray(self(x))


def as_shapes(shape: Any) -> Any:
    """Read what a test gives ``build``: a shape, a list of shapes; a shape in a list is a shape."""
    if isinstance(shape, list | tuple) and shape and isinstance(shape[0], list | tuple):
        return [tuple(part) for part in shape]
    return tuple(shape) if isinstance(shape, list) else shape


@functools.cache
def stand_in(layer_class: Any) -> Any:
    """Give the stand-in class of one of jaxconv's layer classes, with its signature."""
    body = {"layer_class": layer_class, "__signature__": inspect.signature(layer_class)}
    return type(layer_class.__name__, (StandIn,), body)


class Surface(types.ModuleType):
    """A module of Keras's in which jaxconv's things stand at the places of Keras's; ``given`` go before all."""

    def __init__(self, name: str, find: Any, **given: Any):
        super().__init__(name)
        self.__dict__.update(given, find=find)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.__dict__["find"](name)


def find_layer(name: str) -> Any:
    found = getattr(jaxconv, name, None)
    if not (isinstance(found, type) and issubclass(found, Layer)):
        raise AttributeError(f"jaxconv has no layer {name}")
    return stand_in(found)


def make_input(*args: Any, **kwargs: Any) -> Symbol:
    dtype = kwargs.get("dtype") or "float32"
    return Symbol(Input(*args, **kwargs), dtype)


def make_model(inputs: Any, outputs: Any, **kwargs: Any) -> StandIn:
    return stand_in(jaxconv.Model)(symbolic(inputs), symbolic(outputs), **kwargs)


def function(compute: Any) -> Any:
    """Give a function of jaxconv's that takes what Keras's take: variables, and KerasTensors, for their shape."""

    @functools.wraps(compute)
    def on_anything(*args: Any, **kwargs: Any) -> Any:
        with keras_words():
            if not is_symbolic((args, kwargs)):
                return compute(*arrays(args), **arrays(kwargs))
            return traced(compute, args, kwargs)

    return on_anything


def traced(compute: Any, args: Any, kwargs: Any) -> Any:
    """Compute shapes alone. An unknown size is 83 once and 89 once; a size of the result that differs is unknown."""

    def shape(fill: int) -> Any:
        leaves, tree = jax.tree.flatten((args, kwargs), is_leaf=is_leaf)
        at = [i for i, leaf in enumerate(leaves) if isinstance(leaf, KerasTensor)]
        specs = [jax.ShapeDtypeStruct([s or fill for s in leaves[i].shape], leaves[i].dtype) for i in at]

        def run(*values: Any) -> Any:
            filled = [*leaves]
            for i, value in zip(at, values, strict=True):
                filled[i] = value
            a, k = arrays(tree.unflatten(filled))
            return compute(*a, **k)

        return jax.eval_shape(run, *specs)

    one, two = shape(83), shape(89)
    return KerasTensor([a if a == b else None for a, b in zip(one.shape, two.shape, strict=True)], dtype=one.dtype)


def find_initializer(name: str) -> Any:
    found = getattr(jaxconv.initializers, name)
    return seeded(found) if isinstance(found, type) else found


@functools.cache
def seeded(initializer: Any) -> Any:
    """Give an initializer class whose instances take (shape, dtype) as Keras's do; the key is made of the seed."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 3:  # from inside jaxconv
            return initializer.__call__(self, *args)
        shape, dtype = [*args, kwargs.get("shape"), None][0], kwargs.get("dtype") or "float32"
        with keras_words():
            seed = getattr(self, "seed", None)
            return initializer.__call__(self, jaxconv.from_keras_seed(seed or 0), shape, np.dtype(dtype))

    return type(initializer.__name__, (initializer,), {"__call__": call})


def find_activation(name: str) -> Any:
    found = getattr(jaxconv.activations, name)
    return found if name in ("get", "serialize", "deserialize") else function(found)


LAYERS = Surface("layers", find_layer, Input=make_input)
GLOBALS = {
    "layers": LAYERS,
    "models": Surface("models", lambda name: getattr(keras.models, name), Model=make_model),
    "activations": Surface("activations", find_activation),
    "initializers": Surface("initializers", find_initializer),
    "regularizers": jaxconv.regularizers,
    "constraints": jaxconv.constraints,
}
OPS = ("conv", "conv_transpose", "depthwise_conv", "separable_conv")
KNN = Surface("knn", lambda name: getattr(keras.src.ops.nn, name), **{op: function(getattr(jaxconv, op)) for op in OPS})


@contextlib.contextmanager
def default_data_format() -> Any:
    """Let jaxconv's default data format be Keras's while a case runs."""
    before = jaxconv.image_data_format()
    jaxconv.set_image_data_format(keras.config.image_data_format())
    try:
        yield
    finally:
        jaxconv.set_image_data_format(before)
