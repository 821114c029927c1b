"""sweep: one model for each lambda, learning rate and seed, trained at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

from l2keras import _validation, masks
from l2keras._keras import optimizers
from l2keras._sweep import memory, stacking
from l2keras._sweep.feed import Feed, number_of_examples, shuffled
from l2keras._sweep.group import Group, State
from l2keras._sweep.members import COUPLINGS, Member
from l2keras._sweep.optimizer import check_elementwise
from l2keras._sweep.result import SweepResult, collect
from l2keras._sweep.template import Template
from l2keras._sweep.training import Plan, Trained, train

EVALUATION_BATCH = 1024


def sweep(
    build_model: Callable[[], Any],
    lam: float | Sequence[float],
    x: Any,
    y: Any,
    *,
    validation_data: tuple[Any, Any] | None = None,
    optimizer: Any = "sgd",
    loss: Any,
    metrics: Sequence[Any] | None = None,
    epochs: int = 1,
    batch_size: int = 32,
    seeds: int | Sequence[int] = (0,),
    coupling: str = "penalty",
    include: masks.Patterns = None,
    exclude: masks.Patterns = None,
    learning_rates: Sequence[Any] | None = None,
    early_stopping: Any = None,
    memory_budget: int | None = None,
    verbose: int = 1,
) -> SweepResult:
    """Trains one model for each (lam, learning rate, seed) simultaneously.

    The weights of all members are stacked, and one compiled step moves all of them. Each member
    ends with the weights that `fit` gives it alone, from the same initial weights and on the
    same batches, to rounding.

    Convention: `lam` is the coefficient of `W` in the gradient.

        coupling="penalty"        loss + (lam / 2) * sum(W ** 2), as HalfL2(lam) on the layers
        coupling="coupled", "decoupled", "independent"    as WeightDecay(lam, coupling=...)

    Args:
        build_model: Function without arguments that returns a Keras model. It is called after
            `keras.utils.set_random_seed(seed)`, once for each seed: this gives the initial
            weights, which all lams and learning rates of a seed share.
        lam: Finite, non-negative floats; 0 trains without.
        x, y: Arrays, or nested structures of arrays, with the examples along the first axis.
        validation_data: (x, y), evaluated after each epoch, or None.
        optimizer: Keras optimizer (or its name) whose update is elementwise: SGD, Adam, Adamax,
            Nadam, RMSprop, Adagrad, Adadelta, Ftrl, Lion. It is copied, and not changed.
        loss, metrics: As for `compile`.
        epochs, batch_size: As for `fit`.
        seeds: Int or ints. Epoch e (0, 1, ...) of seed s sees the examples in the order
            `numpy.random.default_rng([s, e]).permutation(len(x))`.
        coupling: "penalty", "coupled", "decoupled" or "independent".
        include, exclude: What is decayed: globs on `variable.path`, or predicates, as for
            WeightDecay. By default kernels and embeddings; no bias, gamma or beta.
        learning_rates: Floats or `LearningRateSchedule`s, in the place of the optimizer's own.
        early_stopping: A `keras.callbacks.EarlyStopping`; each member stops by itself.
        memory_budget: Bytes for the members that are trained at once; half of what is free by
            default. Members that do not fit are trained in further groups.
        verbose: 1 for a progress bar, 0 for none.

    Returns:
        `SweepResult`: `history` of shape (members, epochs) for each metric, `weights`,
        `member(i)`, `table()`, `status`; print it. Ctrl-C returns what there is.

    Raises:
        TypeError, ValueError: before any training, for a bad argument and, by its name, for what
            cannot be vectorized: an optimizer with a norm over all weights, global_clipnorm, a
            constraint, a layer whose operations have no form over stacked weights.

    Example:

    >>> import numpy as np
    >>> def build_model():
    ...     dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    ...     return keras.Sequential([keras.Input((1,)), dense])
    >>> zeros = np.zeros((4, 1), "float32")
    >>> sgd = keras.optimizers.SGD(learning_rate=0.5)
    >>> result = sweep(build_model, [0.0, 0.5, 1.0], zeros, zeros, optimizer=sgd, loss="mse",
    ...                batch_size=4, verbose=0)
    >>> [float(weights[0][0, 0]) for weights in result.weights]  # 1 - 0.5 * lam
    [1.0, 0.75, 0.5]
    """
    optimizer = keras.optimizers.get(optimizer)
    check_elementwise(optimizer)
    _validation.check_choice(coupling, "coupling", COUPLINGS)
    optimizers.check_supported(optimizer, "coupled" if coupling == "penalty" else coupling)
    epochs, batch_size = _check_count(epochs, "epochs"), _check_count(batch_size, "batch_size")
    _check_early_stopping(early_stopping)
    _check_data(x, y, validation_data)
    members = _members(lam, seeds, learning_rates, optimizer, coupling)
    head = keras.tree.map_structure(lambda a: np.asarray(a[:2]), (x, y))
    template = Template(build_model, loss, metrics, *head, seed=members[0].seed)
    stacking.check_model(template.model)
    decayed = {id(variable) for variable in masks.select(template.model, include, exclude)}
    mask = [id(variable) in decayed for variable in template.trainable]
    initial = {seed: template.initial(seed) for seed in dict.fromkeys(m.seed for m in members)}
    trained = [
        Trained(number, member, State(*initial[member.seed]))
        for number, member in enumerate(members)
    ]
    needed = memory.bytes_per_member(template.model, optimizer, batch_size)
    most, why = stacking.most_at_once(template.model)
    budget = memory.default_budget() if memory_budget is None else memory_budget
    size = memory.group_size(len(members), needed, budget, most)
    bar = keras.utils.Progbar(-(-len(members) // size) * epochs, unit_name="epoch", verbose=verbose)

    def make_group(size: int) -> Group:
        return Group(
            template,
            optimizer,
            members,
            size=size,
            decayed=mask,
            train=(x, y),
            test=validation_data,
        )

    plan = Plan(
        make_group,
        size,
        epochs,
        train=_shuffled_feed(x, y, batch_size),
        test=None if validation_data is None else _evaluation_feed(*validation_data),
        early_stopping=early_stopping,
        metrics=template.model.metrics,
        on_group_epoch=lambda: bar.add(1),
    )
    interrupted = train(trained, plan)
    notes = [f"{len(members)} members, {size} at once{why}"]
    if interrupted:
        notes.append("interrupted")
    return collect(template, trained, epochs, notes)


def _shuffled_feed(x: Any, y: Any, batch_size: int) -> Feed:
    examples = number_of_examples(x)
    return Feed(
        x,
        y,
        order=lambda member, epoch: shuffled(member.seed, epoch, examples),
        stream=lambda member: member.seed,
        batch_size=batch_size,
    )


def _evaluation_feed(x: Any, y: Any) -> Feed:
    order = np.arange(number_of_examples(x))
    return Feed(x, y, lambda member, epoch: order, lambda member: 0, EVALUATION_BATCH)


def _members(
    lam: Any, seeds: Any, learning_rates: Any, optimizer: Any, coupling: str
) -> list[Member]:
    lams = [_validation.check_lam(one) for one in np.atleast_1d(np.asarray(lam, "object"))]
    numbers = [int(seed) for seed in np.atleast_1d(seeds)]
    rates = [_own_rate(optimizer)] if learning_rates is None else list(learning_rates)
    rates = [_check_rate(rate) for rate in rates]
    for name, values in {"lam": lams, "seeds": numbers, "learning_rates": rates}.items():
        if not values:
            raise ValueError(
                _validation.error(f"`{name}` must name at least one.", f"{name}=[]", "Pass one.")
            )
    return [
        Member(
            lam, seed, rate, coupling, _peak(optimizer, rate) if coupling == "independent" else 1
        )
        for lam, rate, seed in itertools.product(lams, rates, numbers)
    ]


def _own_rate(optimizer: Any) -> Any:
    source = optimizers.learning_rate_source(optimizer)
    return source if isinstance(source, LearningRateSchedule) else float(optimizer.learning_rate)


def _check_rate(rate: Any) -> Any:
    if isinstance(rate, LearningRateSchedule):
        return rate
    return _validation.check_positive(rate, "learning_rates", "Pass floats or Keras schedules.")


def _peak(optimizer: Any, rate: Any) -> float:
    copy = type(optimizer).from_config({**optimizer.get_config(), "learning_rate": rate})
    return optimizers.peak_learning_rate(copy)


def _check_count(value: Any, name: str) -> int:
    return _validation.check_count(value, name, "Pass a positive int.")


def _check_early_stopping(callback: Any) -> None:
    if callback is None or isinstance(callback, keras.callbacks.EarlyStopping):
        return
    raise TypeError(
        _validation.error(
            "`early_stopping` must be a keras.callbacks.EarlyStopping.",
            f"early_stopping={callback!r}",
            "Other callbacks have no single model to act on here.",
        )
    )


def _check_data(x: Any, y: Any, validation_data: Any) -> None:
    pairs = {"x and y": (x, y)}
    if validation_data is not None:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
            raise ValueError(
                _validation.error(
                    "`validation_data` must be (x, y).",
                    f"{type(validation_data).__name__}",
                    "Sample weights and datasets cannot be taken.",
                )
            )
        pairs["validation_data"] = tuple(validation_data)
    for name, pair in pairs.items():
        lengths = {len(array) if hasattr(array, "shape") else -1
                   for array in keras.tree.flatten(pair)}  # fmt: skip
        if len(lengths) != 1 or lengths & {-1, 0}:
            raise ValueError(
                _validation.error(
                    f"`{name}` must be arrays with the same number of examples, one or more.",
                    f"lengths {sorted(lengths)} (-1: not an array)",
                    "Convert them with numpy.asarray.",
                )
            )
