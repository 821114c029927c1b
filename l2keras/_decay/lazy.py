"""Decay of an embedding's rows when they are next touched. TensorFlow only: sparse gradients.

An embedding's gradient touches the rows of one batch; dense decay touches them all. Here a row
that is read first catches up with what it missed,

    W[row] <- W[row] * product over the steps missed of (1 - eta_k * lam)

so that every value that is ever read is that of dense decay. The products are kept as sums of
logarithms in float64: one for the table, and for each row how far of it is done.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import keras

from l2keras import _validation
from l2keras._decay.rounding import LOW_PRECISION
from l2keras._keras import optimizers
from l2keras._keras.variables import model_variables


class LazyTable:
    """The decay that the rows of one embedding have still to take."""

    def __init__(self, layer: Any, variable: Any) -> None:
        import tensorflow as tf

        self._layer = layer
        self._variable = variable
        self._read = False  # by a call of the layer, since the last update
        self._table = variable.value
        self._total = tf.Variable(0.0, dtype="float64", trainable=False)
        self._done = tf.Variable(tf.zeros(variable.shape[0], "float64"), trainable=False)

    def decay(self, gradient: Any, factor: Any) -> None:
        """Multiplies the table by `factor`: the rows of `gradient` now, the others later."""
        import tensorflow as tf

        if not isinstance(gradient, tf.IndexedSlices):
            raise ValueError(_dense(self._layer.name))
        if not self._read:
            raise ValueError(_read_past(self._layer.name))
        self._read = False
        tf.debugging.assert_positive(factor, "lazy=True needs learning_rate * lam < 1.")
        self._total.assign_add(tf.math.log(tf.cast(factor, "float64")))
        self._catch_up(gradient.indices)

    def settle(self) -> None:
        """Every row takes what it missed."""
        import tensorflow as tf

        missed = tf.exp(self._total - self._done)[:, None]
        self._table.assign(self._table * tf.cast(missed, self._table.dtype))
        self._forget()

    def watch_writes(self) -> None:
        """Until `stop_watching`, a value that is assigned from outside owes no decay."""
        methods = vars(self._variable)
        methods["assign"] = self._assign
        methods["assign_add"] = functools.partial(self._settle_and, "assign_add")
        methods["assign_sub"] = functools.partial(self._settle_and, "assign_sub")

    def stop_watching(self) -> None:
        """Leaves the variable as it was."""
        for name in ("assign", "assign_add", "assign_sub"):
            vars(self._variable).pop(name, None)

    def _assign(self, value: Any) -> Any:
        assigned = type(self._variable).assign(self._variable, value)
        self._forget()
        return assigned

    def _settle_and(self, name: str, value: Any) -> Any:
        self.settle()
        return getattr(type(self._variable), name)(self._variable, value)

    def _forget(self) -> None:
        """No row has missed anything."""
        import tensorflow as tf

        self._total.assign(0.0)
        self._done.assign(tf.zeros_like(self._done))

    @contextmanager
    def caught_up_on_read(self) -> Iterator[None]:
        """Inside the block the layer's rows catch up before they are looked up."""
        call = self._layer.call

        def catch_up_and_call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self._read = True  # in this trace
            self._catch_up(keras.ops.reshape(keras.ops.cast(inputs, "int32"), (-1,)))
            return call(inputs, *args, **kwargs)

        vars(self._layer)["call"] = catch_up_and_call
        try:
            yield
        finally:
            vars(self._layer).pop("call", None)

    def _catch_up(self, rows: Any) -> None:
        import tensorflow as tf

        missed = tf.exp(self._total - tf.gather(self._done, rows))[:, None]
        values = tf.gather(self._table, rows) * tf.cast(missed, self._table.dtype)
        # A row that stands twice in `rows` is written twice, with the same value.
        self._table.scatter_update(tf.IndexedSlices(values, rows))
        done = tf.broadcast_to(self._total, tf.shape(rows))
        self._done.scatter_update(tf.IndexedSlices(done, rows))


class LazyTables:
    """The lazily decayed embeddings of each model, made once: they outlive one `fit`."""

    def __init__(self) -> None:
        self._tables: WeakKeyDictionary[Any, dict[int, LazyTable]] = WeakKeyDictionary()
        self._settled = True

    def __reduce__(self) -> tuple[type[LazyTables], tuple[()]]:
        """For pickle and copy: without the tables, which belong to a model of this process."""
        return LazyTables, ()

    def of(self, model: Any, chosen: Sequence[Any]) -> dict[int, LazyTable]:
        """For the id of each chosen variable of an Embedding its table."""
        known = self._tables.setdefault(model, {})
        ids = {id(variable) for variable in chosen}
        for entry in model_variables(model):
            key = id(entry.variable)
            if key in ids and key not in known and isinstance(entry.owner, keras.layers.Embedding):
                _check_table(entry.variable)
                known[key] = LazyTable(entry.owner, entry.variable)
        if not known:
            raise ValueError(_no_embedding([variable.path for variable in chosen]))
        return known

    @contextmanager
    def caught_up_on_read(self) -> Iterator[None]:
        """`LazyTable.caught_up_on_read`, for all of them."""
        if self._settled:
            for table in self._all():
                table.watch_writes()
        self._settled = False
        with ExitStack() as stack:
            for table in self._all():
                stack.enter_context(table.caught_up_on_read())
            yield

    def settle(self) -> None:
        """Every row of every table takes what it missed."""
        if not self._settled:
            for table in self._all():
                table.stop_watching()
                table.settle()
        self._settled = True

    def _all(self) -> list[LazyTable]:
        return [table for tables in self._tables.values() for table in tables.values()]


def check_lazy(optimizer: Any) -> None:
    """Raises ValueError unless every update of `optimizer` leaves untouched rows alone."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(_needs("sparse gradients", f"the {keras.backend.backend()} backend"))
    kinds = ("SGD", "Adagrad", "RMSprop", "Adadelta")
    name = type(optimizer).__name__
    if name not in kinds or getattr(optimizer, "momentum", None):
        received = f"{name} with momentum" if name in kinds else name
        raise ValueError(_needs(f"one of {', '.join(kinds)} without momentum", received))
    for attribute in ("use_ema", "gradient_accumulation_steps"):
        if getattr(optimizer, attribute, None):
            raise ValueError(_needs(f"an optimizer without {attribute}", f"{name}({attribute}=)"))
    if optimizers.is_distributed(optimizer):
        raise ValueError(_needs("a single replica", "a tf.distribute strategy"))


def _check_table(variable: Any) -> None:
    if variable.constraint is not None:
        raise ValueError(_needs("embeddings without a constraint", f"{variable.constraint!r}"))
    if keras.backend.standardize_dtype(variable.dtype) in LOW_PRECISION:
        raise ValueError(_needs("float32 embeddings", f"dtype {variable.dtype}"))


def _needs(what: str, received: str) -> str:
    return _validation.error(
        f"`lazy=True` needs {what}, so that the rows outside a batch stay as they are.",
        received,
        "Leave out lazy=True: the dense form has the same effect.",
    )


def _dense(name: str) -> str:
    received = "a dense gradient: of a regularizer, a tied output or global_clipnorm"
    return _needs(f"sparse gradients of the embedding {name!r}", received)


def _read_past(name: str) -> str:
    return _needs(f"that the embedding {name!r} is called", "a look-up past the layer's call")


def _no_embedding(paths: Sequence[str]) -> str:
    return _validation.error(
        "`lazy=True` is for the table of a keras.layers.Embedding.",
        f"no such variable among {', '.join(paths)}",
        "Leave it out.",
    )
