"""jaxconv's layers with the interface of Keras 3, for Keras's own test modules.

A stand-in layer stores its weights in Keras variables and passes them to jaxconv's pure functions in each call; a
symbolic call adds a node to jaxconv's graph. Independent of test cases.
"""

import dataclasses
import functools
import inspect
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv import Input, Layer, Masking, Model, SymbolicTensor
from jaxconv.registry import snake_case
from jaxconv.training import fit
from tests.keras_suite.messages import keras_words
from tests.support.keras_oracle import keras

KerasTensor, Variable = keras.KerasTensor, keras.Variable
get_mask, set_mask = keras.src.backend.get_keras_mask, keras.src.backend.set_keras_mask
PATHS: Any = jax.tree_util.tree_flatten_with_path


class Symbol(KerasTensor):
    """A KerasTensor with jaxconv's symbolic tensor."""

    def __init__(self, symbolic: SymbolicTensor, dtype: Any = "float32"):
        super().__init__(symbolic.shape, dtype=dtype)
        self.symbolic = symbolic


class MaskOf(KerasTensor):
    """The mask of a symbol."""

    def __init__(self, symbol: Symbol):
        super().__init__(symbol.shape[:-1], dtype="bool")
        self.symbol = symbol


def symbolic(x: Any) -> Any:
    """Convert KerasTensors to jaxconv's symbolic tensors; those that are not symbols become new inputs."""
    make = lambda t: t.symbolic if isinstance(t, Symbol) else Input(batch_shape=t.shape)  # noqa: E731
    return jax.tree.map(lambda t: make(t) if isinstance(t, KerasTensor) else t, x, is_leaf=is_leaf)


def is_leaf(x: Any) -> bool:
    return isinstance(x, KerasTensor | Variable)


def is_symbolic(x: Any) -> bool:
    return any(isinstance(leaf, KerasTensor) for leaf in jax.tree.leaves(x, is_leaf=is_leaf))


def arrays(x: Any) -> Any:
    """Convert Keras variables and numpy arrays to JAX arrays."""

    def array(leaf: Any) -> Any:
        leaf = leaf.value if isinstance(leaf, Variable) else leaf
        return jnp.asarray(leaf) if isinstance(leaf, np.ndarray | np.generic) else leaf

    return jax.tree.map(array, x, is_leaf=is_leaf)


def tuples(x: Any) -> Any:
    """Convert nested lists to tuples."""
    return tuple(map(tuples, x)) if isinstance(x, list) else x


def unwrap(x: Any) -> Any:
    """Return jaxconv's object for a stand-in, also in lists."""
    if isinstance(x, list):
        return [unwrap(part) for part in x]
    return x.layer if isinstance(x, StandIn) else getattr(x, "stands_for", x)


class StandIn:
    """A Keras layer with state that wraps a layer of jaxconv; ``stand_in`` creates the subclasses."""

    layer_class: Any = None

    def __init__(self, *args: Any, **kwargs: Any):
        for name in ("implementation", "time_major"):  # of recurrent layers: they change no number
            kwargs.pop(name, None)
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
        """Create a Keras variable for each leaf of params."""
        with keras_words():
            params, self.apply_fn = self.layer.init(jax.random.key(0), as_shapes(input_shape))
        leaves, self.tree = PATHS(params)
        self.weights = [Variable(value, name=str(path[-1].key)) for path, value in leaves]
        self.mark(params)
        self.paths = {str(path[-1].key): w for (path, _), w in zip(leaves, self.weights, strict=True)}
        for leaf, prefix in self.layer.leaves.items():
            if leaf in self.paths:
                self.paths[leaf].constraint = getattr(self.layer, f"{prefix}_constraint", None)

    @property
    def params(self) -> Any:
        """Return params with the current values of the variables."""
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
        """Return the penalties: one for each regularized weight, then those of the calls."""
        entries = [(leaf, getattr(self.layer, f"{prefix}_regularizer", None)) for leaf, prefix in self.leaves.items()]
        own = [entry(self.paths[leaf].value) for leaf, entry in entries if entry is not None and leaf in self.paths]
        return own + self.penalties

    @property
    def trainable(self) -> bool:
        return self.layer.trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self.layer = dataclasses.replace(self.layer, trainable=value)
        if self.built:
            self.apply_fn = self.layer.apply_fn
            self.mark(self.params)

    def mark(self, params: Any) -> None:
        """Set ``trainable`` of each variable."""
        fixed = {path for path, _ in PATHS(self.apply_fn.split(params)[1])[0]}
        for (path, _), weight in zip(PATHS(params)[0], self.weights, strict=True):
            weight.trainable = path not in fixed

    def __call__(self, inputs: Any, mask: Any = None, training: bool = False, initial_state: Any = None) -> Any:
        x = [*inputs] if isinstance(inputs, tuple) else inputs
        if initial_state is not None:
            x = [x, *(initial_state if isinstance(initial_state, list) else [initial_state])]
        attached = jax.tree.map(get_mask, x, is_leaf=is_leaf)
        if is_symbolic(x):
            if not self.built:
                self.build(jax.tree.map(lambda t: t.shape, x, is_leaf=is_leaf))
            with keras_words():
                out = self.layer(symbolic(x))
            masked = issubclass(self.layer_class, Masking) or jax.tree.leaves(attached, is_leaf=is_leaf)
            return jax.tree.map(lambda t: self.symbol(t, masked), out, is_leaf=lambda t: isinstance(t, SymbolicTensor))
        x = arrays(x)
        if not self.built:
            self.build(x if not isinstance(x, list) else [np.shape(part) for part in x])
        self.calls += 1
        key = jax.random.key(self.calls)
        given = attached if mask is None and jax.tree.leaves(attached) else arrays(mask)
        with keras_words():
            y, effects = self.apply_fn.forward(self.params, x, train=bool(training), key=key, mask=given)
        if effects.mask is not None:
            set_mask(y, effects.mask)
        if getattr(self.layer, "activity_regularizer", None) is not None:
            self.penalties = [effects.penalty]
        for (path, value), weight in zip(PATHS(self.params)[0], self.weights, strict=True):
            new = functools.reduce(lambda tree, step: None if tree is None else tree.get(step.key), path, effects.fixed)
            if new is not None and value is not new:
                weight.assign(new)
        return y

    call = __call__

    def symbol(self, tensor: SymbolicTensor, masked: Any) -> Symbol:
        """Return the KerasTensor of an output, with its mask if it has one."""
        made = Symbol(tensor, self.compute_dtype)
        if masked:
            set_mask(made, MaskOf(made))
        return made

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the layer's output mask; KerasTensors are replaced by zeros."""
        masks = mask if isinstance(mask, list) else [mask]

        def zeros(x: KerasTensor) -> Any:
            known = next((m.shape for m in masks if m is not None), x.shape)
            return jnp.zeros([known[axis] or 1 if size is None else size for axis, size in enumerate(x.shape)])

        x = jax.tree.map(lambda t: zeros(t) if isinstance(t, KerasTensor) else t, inputs, is_leaf=is_leaf)
        with keras_words():
            shape = self.layer.read_shape(jax.tree.map(np.shape, arrays(x)) if isinstance(x, list) else np.shape(x))
            return self.layer.output_mask(arrays(x), self.layer.read_mask(arrays(mask), shape))

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
        """Return jaxconv's config with Keras's types: tuples for the tuples of the layer, a policy for dtype None."""
        layer = dataclasses.replace(self.layer, dtype=self.layer.policy.name)
        config = layer.get_config()
        config |= {name: tuples(v) for name, v in config.items() if isinstance(getattr(layer, name, None), tuple)}
        return config | {"dtype": keras.dtype_policies.serialize(self.dtype_policy)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "StandIn":
        made = cls.__new__(cls)
        StandIn.adopt(made, cls.layer_class.from_config(config))
        return made

    def adopt(self, layer: Layer) -> None:
        """Initialize the stand-in for an existing layer."""
        self.weights, self.paths, self.tree, self.calls, self.penalties = [], {}, None, 0, []
        self.layer = layer

    def predict(self, x: Any, **_: Any) -> np.ndarray:
        return np.asarray(self(x))


class ModelStandIn(StandIn):
    """A Keras model that is trained in place; with ``returns_mask`` it returns the mask of its output."""

    layer_class = Model
    returns_mask = False

    def __call__(self, inputs: Any, mask: Any = None, training: bool = False) -> Any:
        y = super().__call__(inputs, mask, training)
        return get_mask(y) if self.returns_mask else y

    @property
    def layers(self) -> list[Any]:
        """Return the layers as Keras does, inputs first: namespaces with the weights."""
        weights = [types.SimpleNamespace(**self.params.get(name, {})) for name in self.layer.names]
        return [None] * len(self.layer.sources) + weights

    def compile(self, optimizer: Any, loss: Any, **_: Any) -> None:
        self.how = {"optimizer": optimizer, "loss": snake_case(type(loss).__name__)}

    def fit(self, x: Any, y: Any, **kwargs: Any) -> None:
        if not self.built:
            self.build(x.shape)
        fitted = fit(self.apply_fn, self.params, x, y, metrics=(), **self.how, **kwargs)
        for weight, value in zip(self.weights, jax.tree.leaves(fitted.params), strict=True):
            weight.assign(value)


def as_shapes(shape: Any) -> Any:
    """Convert the argument of ``build``: a shape, possibly a list, or a list of shapes."""
    if isinstance(shape, list | tuple) and shape and isinstance(shape[0], list | tuple):
        return [tuple(part) for part in shape]
    return tuple(shape) if isinstance(shape, list) else shape


@functools.cache
def stand_in(layer_class: Any) -> Any:
    """Return the stand-in class of a layer class, with its signature."""
    body = {"layer_class": layer_class, "__signature__": inspect.signature(layer_class)}
    return type(layer_class.__name__, (StandIn,), body)
