"""sweep: one model for each lambda, learning rate and seed, trained at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from l2keras import _calls, masks
from l2keras._sweep import checks, evaluation, interrupts, stacking
from l2keras._sweep.feed import Feed, number_of_examples, shuffled
from l2keras._sweep.group import Group
from l2keras._sweep.members import State
from l2keras._sweep.result import SweepResult, collect
from l2keras._sweep.stopping import check_early_stopping
from l2keras._sweep.template import Template
from l2keras._sweep.training import Plan, Trained, train

_WEIGHTS = "Weigh the examples in the loss, as a function of y."
_INSTEAD = {
    "sample_weight": _WEIGHTS,
    "class_weight": _WEIGHTS,
    "validation_split": "Split the arrays, and pass validation_data=(x, y).",
    "callbacks": "Pass early_stopping=keras.callbacks.EarlyStopping(...): it is the only one.",
    "patience": "Pass early_stopping=keras.callbacks.EarlyStopping(patience=...).",
}


@_calls.explained("sweep", _INSTEAD)
def sweep(
    build_model: Callable[[], Any],
    lam: float | Sequence[float],
    x: Any,
    y: Any,
    *,
    validation_data: tuple[Any, Any] | None = None,
    optimizer: Any = "sgd",
    loss: Any,
    metrics: Any = None,
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

    The weights of all members are stacked, and one compiled step moves all of them; what XLA
    compiles for a CPU runs in several threads, at most one for each core, each with a share of the
    members. On torch a step is recorded once some have run, and its operations alone are repeated,
    unless it has very many or what it does depends on numbers. Each member ends with the weights
    that `fit` gives it alone, from the same initial weights and on the same batches, to rounding:
    in float32 that can grow from step to step in networks with kinks (ReLU, maxima), or under Adam
    for weights without a gradient, such as a bias before a BatchNormalization, as it does between
    two runs of `fit`. Two things differ: on torch every member draws random numbers (dropout,
    noise, augmentation) of its own; and where `fit` on TensorFlow has sparse gradients, those of an
    Embedding without a regularizer, Keras' Adam and its like take each occurrence of a row for
    itself, while the members' gradients are dense, as with HalfL2(0).

    Convention: `lam` is the coefficient of `W` in the gradient.

        coupling="penalty"        loss + (lam / 2) * sum(W ** 2), as HalfL2(lam) on the layers
        coupling="coupled", "decoupled", "independent"    as WeightDecay(lam, coupling=...)

    Args:
        build_model: Function without arguments that returns a Keras model. It is called after
            `keras.utils.set_random_seed(seed)`, once for each seed: this gives the initial
            weights, which all lams and learning rates of a seed share; and once for the model
            that traces the step. It must build the same model, of new layers, at every call. The
            global seeds of Python, NumPy and the backend stay as this leaves them.
        lam: Finite, non-negative floats; 0 trains without.
        x, y: Arrays, or nested structures of arrays, with the examples along the first axis.
        validation_data: (x, y), evaluated after each epoch, or None: in batches of `batch_size`,
            or of more where loss and metrics are Keras' own means over the examples.
        optimizer: Keras optimizer (or its name) whose update is elementwise: SGD, Adam, Adamax,
            Nadam, RMSprop, Adagrad, Adadelta, Ftrl, Lion. It is copied, and not changed.
        loss, metrics: As for `compile`; each must be one number for a batch. There are no sample or
            class weights: a loss can weigh the examples as a function of y.
        epochs, batch_size: As for `fit`.
        seeds: Int or ints. Epoch e (0, 1, ...) of seed s sees the examples in the order
            `numpy.random.default_rng([s, e]).permutation(n)` of its n examples.
        coupling: "penalty", "coupled", "decoupled" or "independent".
        include, exclude: What is decayed: globs on `variable.path`, or predicates, as for
            WeightDecay. By default kernels and embeddings; no bias, gamma or beta.
        learning_rates: Floats or `LearningRateSchedule`s, in the place of the optimizer's own.
        early_stopping: A `keras.callbacks.EarlyStopping`; each member stops by itself.
        memory_budget: Bytes for the members that are trained at once; half of what is free by
            default, or 4 GB where that is not told, as by TensorFlow on a GPU. Members that do
            not fit are trained in further groups. To the bytes come the seats that fill up the
            threads' shares: of 5 members two threads take 3 each.
        verbose: 1 for a progress bar, 0 for none.

    Returns:
        `SweepResult`: `history` of shape (members, epochs) for each metric, `weights`,
        `member(i)`, `table()`, `status`; print it. Once training has begun, Ctrl-C returns what
        there is; and so does, with a warning, running out of memory or another failure of the
        backend once members are done. A handler of your own for SIGINT is called between steps, and
        what it raises goes on to you.

    Raises:
        TypeError, ValueError: before any training, for a bad argument and, by its name, for what
            cannot be vectorized: an optimizer with a norm over all weights, global_clipnorm, a
            constraint, an L2 penalty of decayed weights, a layer whose operations have no form
            over stacked weights.

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
    checks.check_builder(build_model)
    optimizer = checks.check_optimizer(optimizer, coupling)
    members = checks.check_members(lam, seeds, learning_rates, optimizer, coupling)
    epochs = checks.check_count(epochs, "epochs")
    batch_size = checks.check_count(batch_size, "batch_size")
    memory_budget = checks.check_budget(memory_budget)
    verbose = checks.check_verbose(verbose)
    checks.check_compiled(loss, "loss")
    checks.check_compiled(metrics, "metrics")
    checks.check_early_stopping(early_stopping)
    checks.check_patterns(include, exclude)
    checks.check_data(x, y, validation_data)
    train_data, test_data = checks.as_arrays((x, y)), None
    if validation_data is not None:
        test_data = checks.as_arrays(tuple(validation_data))
    head_x, head_y = keras.tree.map_structure(lambda array: array[:2], train_data)
    template = Template(build_model, loss, metrics, head_x, head_y, seed=members[0].seed)
    stacking.check_model(template.model)
    width = batch_size
    if test_data is not None and evaluation.is_by_example(template.model, loss, metrics):
        width = evaluation.widest(batch_size, number_of_examples(test_data[0]))
    names = ["loss", *template.metric_names, "data_loss", "penalty"]
    if test_data is not None:
        names += [f"val_{name}" for name in names]
    check_early_stopping(early_stopping, names, template.model.metrics)
    selected = masks.select(template.model, include, exclude)
    if any(member.lam for member in members):
        stacking.check_decayed(selected)
    decayed = {id(variable) for variable in selected}
    size, note = stacking.group_size(
        template.model, optimizer, len(members), batch_size, memory_budget
    )
    feed = _shuffled_feed(train_data, batch_size)
    steps = feed.steps(number_of_examples(train_data[0]))

    def make_group(size: int) -> Group:
        return Group(
            template,
            optimizer,
            members,
            size=size,
            decayed=[id(variable) in decayed for variable in template.trainable],
            train=train_data,
            test=test_data,
            clusters=stacking.clusters(template.model, size, steps, epochs),
        )

    bar = keras.utils.Progbar(-(-len(members) // size) * epochs, unit_name="epoch", verbose=verbose)
    plan = Plan(
        make_group,
        size,
        epochs,
        train=feed,
        test=None if test_data is None else _evaluation_feed(test_data, width),
        early_stopping=early_stopping,
        metrics=template.model.metrics,
        on_group_epoch=lambda: bar.add(1),
    )
    initial = {seed: template.initial(seed) for seed in dict.fromkeys(m.seed for m in members)}
    trained = [
        Trained(number, member, State(*initial[member.seed]))
        for number, member in enumerate(members)
    ]
    notes = [note, *_trained(trained, plan)]
    if early_stopping is not None and early_stopping.restore_best_weights:
        best = f"best epoch in {early_stopping.monitor}, not of the last that is shown"
        notes.append(f"the weights are those of each member's {best}")
    return collect(template, trained, epochs, notes)


def _trained(members: Sequence[Trained], plan: Plan) -> list[str]:
    """Trains, and tells what kept it from the end: what is done is not lost to the backend."""
    try:
        return ["interrupted"] if train(members, plan) else []
    except _failures() as error:
        left = sum(not one.is_done for one in members)
        if left == len(members) or interrupts.comes_from_handler(error):
            raise
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        note = f"{left} members were not trained to the end: {why}"
        warnings.warn(note, stacklevel=4)
        return [note]


def _failures() -> tuple[type[Exception], ...]:
    """What a backend raises where memory, or a device, fails."""
    if keras.backend.backend() != "tensorflow":
        return MemoryError, RuntimeError
    import tensorflow as tf

    return MemoryError, RuntimeError, tf.errors.OpError


def _shuffled_feed(data: tuple[Any, Any], batch_size: int) -> Feed:
    x, y = data
    examples = number_of_examples(x)
    return Feed(
        x,
        y,
        order=lambda member, epoch: shuffled(member.seed, epoch, examples),
        stream=lambda member: member.seed,
        batch_size=batch_size,
    )


def _evaluation_feed(data: tuple[Any, Any], width: int) -> Feed:
    order = np.arange(number_of_examples(data[0]))
    return Feed(*data, lambda member, epoch: order, lambda member: 0, width)
