"""The private parts of Keras that the library stands on: when one changes, a test here fails."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._keras.losses import (
    add_metrics,
    is_better_if_higher,
    remove_metrics,
    uncounted_name,
)
from l2keras._keras.rehearsal import rehearsal
from tests.support.models import BACKEND, dense_model, fit_zeros, to_numpy

# Each has a test in this file; only the modules of `l2keras/_keras` may touch them.
PRIVATE = {
    "optimizers": {
        *("_learning_rate", "_distribution_strategy", "__internal__"),
        *("_velocities", "_velocity_hats", "_iterations"),
        "_value",  # of a Keras variable: None while JAX has taken it out
        "_foreach_mul_",  # torch's, which Keras' optimizers call, too
    },
    "held": {"_trainable_variables"},
    "own_decay": {
        *("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"),
        *("_should_use_adamw", "_use_weight_decay", "_var_key"),
        *("_optimizer_map", "_var_to_optimizer_idx"),
    },
    "variables": {
        *("_flatten_layers", "_trainable_variables", "_non_trainable_variables"),
        "_value",  # of a Keras variable: the TensorFlow variable
        "_build_shapes_dict",
    },
    "graph": {"_keras_history", "_inbound_nodes"},
    "losses": {
        "_metrics",
        "_value",  # of a Keras variable: None while JAX has taken it out
    },
    "shares": {"_losses_override"},
    "state": {"_get_jax_state", "_jax_state", "_jax_state_synced"},
    "tensorflow_rules": {"_pfor_converter_registry", "_create_op"},
    "torch_vmap": {"_maybe_convert_to_channels_last"},
}
# Private names that are not Keras': Python's, and our own that another module reads.
OURS = {
    "__call__",
    "__get__",
    "__name__",
    "__new__",
    "__module__",
    "__mro__",
    "__qualname__",
    "__traceback__",
    "_fields",
    "_compiled",
    # Of WeightDecay, and of the step's function.
    *("_arguments", "_check_arguments", "_make_rule", "_optimizer_named"),
    *("_lams", "_optimizer_of", "_reporter", "_rule_for", "_rule_in_force", "_updated_by"),
}
MODULES = sorted(Path(l2keras.__file__).parent.rglob("*.py"))


def private_names(module: Path) -> set[str]:
    """The underscored attributes that a module reads from other objects than its own."""
    tree = ast.parse(module.read_text())
    definitions = (ast.FunctionDef, ast.ClassDef)
    ours = {node.name for node in ast.walk(tree) if isinstance(node, definitions)}
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
        and node.attr not in ours | OURS
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_private_attributes_of_keras_stay_in_their_modules(module: Path) -> None:
    """A private attribute that is used somewhere else, or is new, fails until it is dealt with."""
    known = PRIVATE.get(module.stem, set()) if module.parent.name == "_keras" else set()
    assert private_names(module) == known


@pytest.mark.parametrize("accumulation", [None, 2])
def test_the_update_is_called_with_clipped_gradients_and_undecayed_weights(
    accumulation: int | None,
) -> None:
    """`_backend_update_step` meets each real update once: gradient scaled and clipped, W at W_t."""
    optimizer = keras.optimizers.SGD(
        0.5, clipvalue=1.0, loss_scale_factor=4.0, gradient_accumulation_steps=accumulation
    )
    variable = keras.Variable(np.full((2, 2), 3.0, "float32"))
    optimizer.build([variable])
    keras_update, seen = optimizer._backend_update_step, []

    def update(grads: Any, trainable_variables: Any, learning_rate: Any) -> Any:
        values = (grads[0], trainable_variables[0], keras.ops.convert_to_tensor(learning_rate))
        seen.append([float(to_numpy(keras.ops.ravel(value)[0])) for value in values])
        assert trainable_variables[0] is variable
        return keras_update(grads, trainable_variables, learning_rate)

    vars(optimizer)["_backend_update_step"] = update
    for value in (6.0, 2.0):
        optimizer.apply([keras.ops.full((2, 2), value)], [variable])
    del vars(optimizer)["_backend_update_step"]
    # 6/4 and 2/4 clipped to 1 and 0.5; or, accumulated first, the mean of 1.5 and 0.5
    once, twice = [[1.0, 3.0, 0.5]], [[1.0, 3.0, 0.5], [0.5, 2.5, 0.5]]
    if BACKEND == "jax" and accumulation:
        # JAX runs the update at every step and takes it back where the gradients only add up.
        assert len(seen) == 2
        assert seen[-1] == once[0]
    else:
        assert seen == (once if accumulation else twice)
    assert float(to_numpy(variable)[0, 0]) == (2.5 if accumulation else 2.25)


def test_the_update_has_the_signature_that_the_hook_has() -> None:
    """Every optimizer of Keras takes (grads, trainable_variables, learning_rate)."""
    for value in vars(keras.optimizers).values():
        if inspect.isclass(value) and issubclass(value, keras.optimizers.Optimizer):
            update: Any = getattr(value, "_backend_update_step")  # noqa: B009  # mypy sees an object
            names = list(inspect.signature(update).parameters)
            assert names == ["self", "grads", "trainable_variables", "learning_rate"], value


def test_schedules_count_batches_where_gradients_are_accumulated() -> None:
    """`_iterations` counts batches, `iterations` updates; a schedule is called with the first."""
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.5, 0.25])
    optimizer = keras.optimizers.SGD(schedule, gradient_accumulation_steps=2)
    variable = keras.Variable(np.ones((2, 2), "float32"))
    optimizer.build([variable])
    for _ in range(3):
        optimizer.apply([keras.ops.ones((2, 2))], [variable])
    assert (int(optimizer._iterations), int(optimizer.iterations)) == (3, 1)
    assert float(to_numpy(optimizer.learning_rate)) == 0.25


def test_the_learning_rate_is_a_schedule_or_a_variable() -> None:
    """`_learning_rate` holds what was passed, where `learning_rate` evaluates it."""
    schedule = keras.optimizers.schedules.CosineDecay(0.5, 10)
    assert keras.optimizers.SGD(schedule)._learning_rate is schedule
    assert isinstance(keras.optimizers.SGD(0.5)._learning_rate, keras.Variable)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_the_parts_of_tf_distribute_are_there() -> None:
    """The strategy of the optimizer, its `extended.update`, and `maybe_merge_call`."""
    import tensorflow as tf

    strategy = keras.optimizers.SGD(0.5)._distribution_strategy
    assert strategy is tf.distribute.get_strategy()
    assert callable(strategy.extended.update)
    merge = tf.__internal__.distribute.interim.maybe_merge_call
    assert merge(lambda strategy, value: value + 1, strategy, 2) == 3


def test_exclusions_are_kept_in_three_attributes() -> None:
    """A set of keys, one pattern, and a cache of answers that a new call empties."""
    optimizer = keras.optimizers.SGD(0.5, weight_decay=0.1)
    assert not [name for name in vars(optimizer) if name.startswith("_exclude_from")]
    kernel = dense_model().weights[0]
    optimizer.exclude_from_weight_decay(var_list=[kernel], var_names=["a", "b"])
    assert set(optimizer._exclude_from_weight_decay) == {optimizer._var_key(kernel)}
    assert sorted(optimizer._exclude_from_weight_decay_pattern.pattern) == ["a", "b", "|"]
    assert optimizer._use_weight_decay(kernel) is False
    assert dict(vars(optimizer)["_exclude_from_weight_decay_cache"]) != {}
    optimizer.exclude_from_weight_decay(var_names=["b"])
    assert dict(vars(optimizer)["_exclude_from_weight_decay_cache"]) == {}
    assert set(optimizer._exclude_from_weight_decay) == set()


def test_the_compiled_step_fills_the_cache_of_answers() -> None:
    """Every variable that a step decayed or left out was asked about by `_use_weight_decay`."""
    model = dense_model(use_bias=True)
    model.compile(keras.optimizers.SGD(0.5, weight_decay=0.1), "mse")
    fit_zeros(model, 1)
    cache = vars(model.optimizer)["_exclude_from_weight_decay_cache"]
    assert sorted(cache) == sorted(model.optimizer._var_key(v) for v in model.weights)


def test_muon_chooses_by_variable() -> None:
    """`_should_use_adamw` is True for what Muon hands to its Adam."""
    kernel, bias = dense_model(use_bias=True).weights
    muon = keras.optimizers.Muon(0.5)
    assert (muon._should_use_adamw(kernel), muon._should_use_adamw(bias)) == (False, True)


def test_a_multi_optimizer_knows_its_members() -> None:
    """Its map before it is built, and the member of each variable's key after."""
    kernel, bias = dense_model(use_bias=True).weights
    kernels, others = keras.optimizers.SGD(0.5), keras.optimizers.SGD(0.25)
    chosen = keras.optimizers.OptimizerMap(others, {".*kernel": kernels})
    multi = keras.optimizers.MultiOptimizer(chosen)
    assert multi._optimizer_map(kernel) is kernels
    assert multi._optimizer_map(bias) is others
    multi.build([kernel, bias])
    indices = [multi._var_to_optimizer_idx[multi._var_key(v)] for v in (kernel, bias)]
    assert [multi.optimizers[index] for index in indices] == [kernels, others]


def test_layers_are_flattened_with_the_model_itself() -> None:
    """`_flatten_layers` yields the model, nested models and their layers, each once."""
    shared = keras.layers.Dense(3, name="shared")
    inner = keras.Sequential([keras.Input((3,)), shared], name="inner")
    model = keras.Sequential([keras.Input((3,)), inner, shared])
    found = list(model._flatten_layers(include_self=True, recursive=True))
    assert {id(layer) for layer in (model, inner, shared)} <= {id(layer) for layer in found}
    assert next(iter(model._flatten_layers())) is model


def test_a_layer_lists_its_own_variables() -> None:
    """The two private lists hold a layer's own variables, not those of layers inside it."""
    norm = keras.layers.BatchNormalization()
    norm.build((None, 3))
    assert norm._trainable_variables == [norm.gamma, norm.beta]
    assert norm.moving_mean in norm._non_trainable_variables
    assert not [
        variable for variable in keras.Sequential([norm])._trainable_variables if variable.shape
    ]


def test_a_tensor_knows_the_node_that_made_it() -> None:
    """`_keras_history` and `_inbound_nodes` lead from an output back to the inputs."""
    inputs = keras.Input((3,))
    dense = keras.layers.Dense(2)
    outputs = dense(inputs)
    operation, index, _ = outputs._keras_history
    assert operation is dense
    (parent,) = operation._inbound_nodes[index].parent_nodes
    assert parent.is_input


def test_adam_keeps_its_second_moments() -> None:
    """`_velocities` holds v, before the bias correction; `_velocity_hats` its maximum."""
    for amsgrad in (False, True):
        optimizer = keras.optimizers.Adam(0.5, beta_2=0.75, amsgrad=amsgrad)
        variable = keras.Variable(np.ones((2, 2), "float32"))
        optimizer.build([variable])
        optimizer.apply([keras.ops.full((2, 2), 2.0)], [variable])
        moments = optimizer._velocity_hats if amsgrad else optimizer._velocities
        np.testing.assert_allclose(to_numpy(moments[0]), np.full((2, 2), 0.25 * 4))


def test_the_penalties_are_the_last_of_the_losses() -> None:
    """`losses` is `_losses_override` where that is set, else it ends with the weight penalties."""
    layer = keras.layers.Dense(
        2, kernel_initializer="ones", kernel_regularizer="l2", activity_regularizer="l1"
    )
    model = keras.Sequential([keras.Input((3,)), layer])
    model(np.ones((1, 3), "float32"))
    assert [float(to_numpy(loss)) for loss in model.losses] == pytest.approx([0.06, 0.06])
    layer.kernel.regularizer = keras.regularizers.L2(1.0)
    assert float(to_numpy(model.losses[-1])) == 6.0
    assert not model._losses_override
    vars(model)["_losses_override"] = [1, 2]
    assert model.losses == [1, 2]


def test_the_override_is_tested_for_truth_and_then_read_again() -> None:
    """So an object there notes a read of `losses`, and can put a list in its place."""
    model = dense_model()

    class Notes:
        def __bool__(self) -> bool:
            vars(model)["_losses_override"] = [1, 2]
            return True

    vars(model)["_losses_override"] = Notes()
    assert model.losses == [1, 2]


def test_metrics_may_be_added_to_a_model_that_is_built() -> None:
    """`_metrics` is a plain list, and EarlyStopping looks into a MetricsList for a direction."""
    model = dense_model()
    model.compile("sgd", "mse")
    metric = keras.metrics.Mean(name="mine")
    metric._direction = "down"
    container = add_metrics(model, [metric])
    assert model.metrics[-1] is container
    metric.update_state(2.0)
    assert {key: float(value) for key, value in container.result().items()} == {"mine": 2.0}
    assert len(container.variables) == 2
    stop = keras.callbacks.EarlyStopping("val_mine")
    stop.set_model(model)
    stop._set_monitor_op()
    assert stop.monitor_op is keras.ops.less
    remove_metrics(model, container)
    assert container not in model.metrics


def test_a_metric_says_whether_it_is_to_grow_and_has_a_numbered_name() -> None:
    found = [keras.metrics.AUC(), keras.metrics.MeanAbsoluteError(), keras.metrics.Mean()]
    assert [is_better_if_higher(metric) for metric in found] == [True, False, None]
    assert [uncounted_name(keras.metrics.R2Score()) for _ in range(2)] == ["r2_score"] * 2
    assert uncounted_name(keras.metrics.AUC(name="best_2")) == "best_2"


def test_the_traces_of_a_layer_are_in_the_global_state() -> None:
    """Name counters, variables without a value yet, and the unseeded generator are kept there."""
    state: Any = importlib.import_module("keras.src.backend.common.global_state")
    keras.utils.clear_session(free_memory=False)
    tracker = state.GLOBAL_STATE_TRACKER  # a new one
    assert keras.layers.Dense(1).name == "dense"
    assert tracker.object_name_uids["dense"] == 1
    with rehearsal(with_arrays=False):
        layer = keras.layers.Dense(1)
        layer.build((None, 3))
        assert layer.name == "dense_1"
        keras.random.normal((1,))
        made = [*layer.weights, tracker.global_seed_generator.state]
        assert list(map(id, tracker.uninitialized_variables)) == list(map(id, made))
    assert keras.layers.Dense(1).name == "dense_1"
    assert not tracker.uninitialized_variables
    assert tracker.global_seed_generator is None


def test_a_regularizer_is_read_from_the_variable_at_every_step() -> None:
    """`variable.regularizer` counts when `losses` is read, whatever the layer was built with."""
    model = dense_model(regularizer="l2")
    model.get_layer("dense").kernel.regularizer = None
    assert not model.losses


def test_fit_makes_its_function_first_and_looks_it_up_at_every_batch() -> None:
    """fit calls make_train_function, then on_train_begin, then model.train_function each batch."""
    model = dense_model()
    model.compile(keras.optimizers.SGD(0.5), "mse")
    make, order = model.make_train_function, []

    def noted(force: bool = False) -> Any:
        order.append("make")
        return make(force)

    class Note(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            order.append("begin")
            function = self.model.train_function

            def train_function(*arguments: Any) -> Any:
                order.append("batch")
                return function(*arguments)

            self.model.train_function = train_function

    vars(model)["make_train_function"] = noted
    fit_zeros(model, 2, [Note()])
    assert order == ["make", "begin", "batch", "batch"]


@pytest.mark.skipif(BACKEND == "torch", reason="Keras on torch runs the step in Python every time")
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("lam", [0.5, keras.optimizers.schedules.CosineDecay(0.5, 10)])
def test_decay_adds_no_trace(lam: Any, jit: bool) -> None:
    """Over three epochs the step is traced exactly once, with a float and with a schedule."""
    if BACKEND == "jax" and not jit:
        pytest.skip("Keras on JAX traces with jit_compile only")
    traces = []

    class Counted(keras.Sequential):
        def train_step(self, *arguments: Any) -> Any:
            traces.append(1)
            return super().train_step(*arguments)

    layer = keras.layers.Dense(2, use_bias=False)
    model = Counted([keras.Input((3,)), layer])
    model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=jit)
    model.optimizer.build(model.trainable_variables)
    fit_zeros(model, 3, [l2keras.WeightDecay(lam)], epochs=3)
    assert len(traces) == 1


@pytest.mark.skipif(BACKEND != "jax", reason="only Keras on JAX takes the values out of variables")
def test_fit_on_jax_holds_the_values_in_one_state_between_steps() -> None:
    """They are in `_jax_state` by these names until `jax_state_sync`; `_get_jax_state` purges."""
    model = dense_model()
    model.compile(keras.optimizers.SGD(0.5), "mse")
    seen: list[Any] = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(set(self.model._jax_state))
            self.model.jax_state_sync()
            seen.append(self.model._jax_state_synced)
            self.model._get_jax_state(trainable_variables=True, purge_model_variables=True)
            seen.append(self.model.trainable_variables[0]._value)
            self.model._jax_state_synced = False
            self.model.jax_state_sync()

    fit_zeros(model, 1, [Look()])
    names = {"trainable_variables", "non_trainable_variables", "optimizer_variables"}
    assert seen == [{*names, "metrics_variables"}, True, None]
