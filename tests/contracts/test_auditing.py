"""One row for every variable: the lambda of each source, and what one real step then does."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from tests.support.models import BACKEND, dense_model, excluding, fit_zeros, mixed_model, to_numpy


def multi_optimizer() -> Any:
    """The layer `first` decayed with 0.2, the rest with 0.1, at learning rates 0.5 and 0.25."""
    sgd = keras.optimizers.SGD
    optimizers = {"mixed/first/.*": sgd(0.5, weight_decay=0.2)}
    default = sgd(0.25, weight_decay=0.1)
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(default, optimizers))


def muon() -> Any:
    """0.2 for the kernels, which Muon takes, and 0.1 for the rest, which its Adam does."""
    return keras.optimizers.Muon(0.5, weight_decay=0.2, adam_weight_decay=0.1)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: keras.optimizers.SGD(0.5, weight_decay=0.2), dict.fromkeys("kbgcKB", 0.1)),
        (lambda: keras.optimizers.SGD(0.5), {}),
        (
            lambda: excluding(keras.optimizers.AdamW(0.5, weight_decay=0.2), ["bias", "gamma"]),
            {"k": 0.1, "c": 0.1, "K": 0.1},
        ),
        (muon, {"k": 0.1, "K": 0.1, "b": 0.05, "g": 0.05, "c": 0.05, "B": 0.05}),
        (
            multi_optimizer,
            {"k": 0.1, "b": 0.1, "g": 0.025, "c": 0.025, "K": 0.025, "B": 0.025},
        ),
        (
            lambda: keras.optimizers.LossScaleOptimizer(
                keras.optimizers.SGD(0.5, weight_decay=0.2), initial_scale=1.0
            ),
            dict.fromkeys("kbgcKB", 0.1),
        ),
    ],
    ids=["sgd", "without", "excluded", "muon", "multi", "loss scale"],
)
def test_one_step_shrinks_each_weight_by_what_its_row_says(
    make: Any, expected: dict[str, float]
) -> None:
    """The shrink per step of every row is what a real step with a zero gradient does."""
    model = mixed_model(make())
    letters = dict(zip(("k", "b", "g", "c", "K", "B"), model.weights, strict=True))
    rows = {row.path: row for row in l2keras.audit(model).rows}
    for letter, variable in letters.items():
        assert rows[variable.path].shrink == pytest.approx(expected.get(letter, 0.0)), letter
    fit_zeros(model, 1)
    for letter, variable in letters.items():
        lost = 1 - to_numpy(variable).ravel()[0]
        assert lost == pytest.approx(expected.get(letter, 0.0), abs=1e-6), letter


@pytest.mark.parametrize(
    ("regularizer", "lam", "l1"),
    [
        (None, 0.0, 0.0),
        (l2keras.HalfL2(0.3), 0.3, 0.0),
        (keras.regularizers.L2(0.15), 0.3, 0.0),
        ("l2", 0.02, 0.0),
        (keras.regularizers.L1L2(l1=0.01, l2=0.15), 0.3, 0.01),
        (keras.regularizers.L1(0.01), 0.0, 0.01),
        (keras.regularizers.OrthogonalRegularizer(0.1), None, 0.0),
    ],
)
def test_a_regularizer_in_the_half_convention(
    regularizer: Any, lam: float | None, l1: float
) -> None:
    """L2(c) counts as 2 c, HalfL2(lam) as lam, L1 beside it; any other has only a name."""
    row = l2keras.audit(dense_model(regularizer=regularizer)).rows[0]
    assert (row.lam_regularizer, row.lam, row.l1) == (lam, lam, l1)
    assert bool(row.regularizer) is (regularizer is not None)
    assert (row.shrink, row.timescale) == (None, None)  # not compiled


def test_the_path_shape_dtype_and_role_of_a_row() -> None:
    """A row describes its variable as Keras does."""
    report = l2keras.audit(mixed_model("sgd"))
    row = report.row("mixed/norm/gamma")
    assert (row.shape, row.dtype, row.role, row.layer) == (
        (3,), "float32", "gamma", "LayerNormalization"
    )  # fmt: skip
    assert [r.kind for r in report.rows] == ["kernel", "bias", "norm", "norm", "kernel", "bias"]


@pytest.mark.parametrize(("momentum", "shrink"), [(0.0, 0.05), (0.5, 0.1)])
def test_coupled_decay_under_momentum_is_that_of_the_long_run(
    momentum: float, shrink: float
) -> None:
    """Under SGD a penalty shrinks by eta * lam / (1 - momentum) a step: 0.5 * 0.1 / 0.5."""
    optimizer = keras.optimizers.SGD(0.5, momentum=momentum)
    row = l2keras.audit(mixed_model(optimizer, regularizer=l2keras.HalfL2(0.1))).rows[0]
    assert row.shrink == pytest.approx(shrink)
    assert row.timescale == pytest.approx(1 / shrink)


def test_heavy_ball_shrinks_by_that_many() -> None:
    """The recursion that the formula stands for: after the start W falls by eta*lam/(1-mu)."""
    weight, velocity = 1.0, 0.0
    for _ in range(4000):
        before = weight
        velocity = 0.9 * velocity - 1e-3 * 0.1 * weight
        weight += velocity
    assert 1 - weight / before == pytest.approx(1e-3 * 0.1 / (1 - 0.9), rel=0.01)


def test_a_penalty_under_adam_has_no_shrink_of_its_own() -> None:
    """Adam rescales a coupled gradient: lam is reported, the shrink is not known."""
    row = l2keras.audit(mixed_model("adam", regularizer=l2keras.HalfL2(0.1))).rows[0]
    assert (row.lam, row.shrink) == (0.1, None)
    assert row.learning_rate == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("coupling", "lam", "shrink"),
    [("decoupled", 0.2, 0.1), ("coupled", 0.2, 0.1), ("independent", 0.4, 0.2)],
)
def test_weight_decay_by_callback(coupling: str, lam: float, shrink: float) -> None:
    """The callback's lam on what it selects; independent is lam / peak and shrinks by lam."""
    model = mixed_model(keras.optimizers.SGD(0.5))
    report = l2keras.audit(model, [l2keras.WeightDecay(0.2, coupling=coupling)])
    decayed = [row for row in report.rows if row.decayed]
    assert [row.path for row in decayed] == ["mixed/first/kernel", "mixed/last/kernel"]
    for row in decayed:
        assert row.lam == pytest.approx(lam)
        assert row.shrink == pytest.approx(shrink)
        assert [d.coupling for d in row.callbacks] == [coupling]


def test_independent_decay_without_an_optimizer_is_not_known() -> None:
    """Uncompiled, the peak that an independent lam is relative to is not known."""
    decay = l2keras.WeightDecay(0.2, coupling="independent")
    row = l2keras.audit(dense_model(), [decay]).rows[0]
    assert (row.lam, row.callbacks[0].lam, row.decayed) == (None, 0.2, True)


def test_a_schedule_of_lam_and_of_the_learning_rate_at_the_present_step() -> None:
    """Both schedules are read at optimizer.iterations: 2 of 4 steps from 0.4 to 0 is 0.2."""
    schedule = keras.optimizers.schedules.PolynomialDecay(0.4, 4, end_learning_rate=0.0)
    model = mixed_model(keras.optimizers.SGD(schedule))
    decay = l2keras.WeightDecay(lambda step: 0.1 * step)
    for step, rate, lam in ((0, 0.4, 0.0), (2, 0.2, 0.2)):
        model.optimizer.iterations.assign(step)
        report = l2keras.audit(model, [decay])
        assert report.rows[0].learning_rate == pytest.approx(rate)
        assert report.rows[0].lam == pytest.approx(lam)
        assert f"PolynomialDecay at step {step}" in report.optimizers[0]


def test_all_sources_add_up() -> None:
    """Regularizer 2 * 0.05, optimizer 0.2 and callback 0.3 make lam 0.6."""
    optimizer = keras.optimizers.SGD(0.5, weight_decay=0.2)
    model = mixed_model(optimizer, regularizer=keras.regularizers.L2(0.05))
    row = l2keras.audit(model, [l2keras.WeightDecay(0.3)]).rows[0]
    assert row.lam == pytest.approx(0.6)
    assert row.shrink == pytest.approx(0.5 * 0.6)


def test_frozen_variables_are_not_decayed() -> None:
    """A frozen layer, and a frozen model, have lam 0 whatever is set on them."""
    model = mixed_model(keras.optimizers.SGD(0.5, weight_decay=0.2), regularizer="l2")
    model.get_layer("first").trainable = False
    report = l2keras.audit(model)
    row = report.row("mixed/first/kernel")
    assert (row.trainable, row.lam, row.lam_optimizer, row.lam_regularizer) == (False, 0.0, 0.0, 0)
    assert report.totals["frozen"] == {"tensors": 2, "parameters": 12}
    model.trainable = False
    assert l2keras.audit(model).totals["decayed"]["tensors"] == 0


def test_fit_logs_the_digest_and_keeps_the_report(caplog: pytest.LogCaptureFixture) -> None:
    """One INFO line with the digest a fit, one table at DEBUG; two callbacks share the report."""
    model = dense_model(use_bias=True)
    model.compile(keras.optimizers.SGD(0.5), "mse")
    kernels = l2keras.WeightDecay(0.1)
    biases = l2keras.WeightDecay(0.2, include="*/bias")
    assert vars(kernels)["report"] is None
    caplog.set_level(logging.DEBUG, "l2keras")
    fit_zeros(model, 1, [kernels, biases], epochs=3)
    assert kernels.report is not None
    assert kernels.report is biases.report
    assert {row.role: row.lam for row in kernels.report.rows} == {"kernel": 0.1, "bias": 0.2}
    assert kernels.report.digest == l2keras.audit(model, [kernels, biases]).digest
    records = [record for record in caplog.records if record.name == "l2keras"]
    assert [record.levelno for record in records] == [logging.INFO, logging.DEBUG]
    assert kernels.report.digest in records[0].getMessage()
    assert "dense/kernel" in records[1].getMessage()


def test_each_fit_has_its_own_report() -> None:
    """Another fit makes another report and leaves the first as it was."""
    model = dense_model()
    model.compile(keras.optimizers.SGD(0.5), "mse")
    decay = l2keras.WeightDecay(0.1)
    reports = []
    for lam in (0.1, 0.3):
        decay.lam = lam
        fit_zeros(model, 1, [decay])
        reports.append(decay.report)
    assert [report.rows[0].lam for report in reports if report] == [0.1, 0.3]


def test_a_model_that_gets_its_variables_in_fit_is_reported() -> None:
    """A model without shapes has its report after fit."""
    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    decay = l2keras.WeightDecay(0.1)
    zeros = np.zeros((2, 3), "float32"), np.zeros((2, 2), "float32")
    model.fit(*zeros, verbose=0, callbacks=[decay])
    assert decay.report is not None
    assert decay.report.totals["decayed"] == {"tensors": 1, "parameters": 6}


def test_callbacks_may_be_none_and_nothing_else() -> None:
    """audit takes what fit takes; another thing raises with what came."""
    model = dense_model()
    assert l2keras.audit(model, None).digest == l2keras.audit(model).digest  # type: ignore[arg-type]  # as fit does
    for wrong in (5, ["EarlyStopping"]):
        with pytest.raises(TypeError, match=r"must hold Keras callbacks.*Received: callbacks="):
            l2keras.audit(model, wrong)  # type: ignore[arg-type]  # what is tested


def test_a_path_that_is_none_names_the_nearest() -> None:
    """row raises a KeyError with the paths that are like it."""
    with pytest.raises(KeyError, match="nearest are: sequential/dense/kernel"):
        l2keras.audit(dense_model()).row("dense/kernle")


FORMS: dict[str, tuple[dict[str, Any], float, float | None]] = {
    # arguments, lam of the kernel, shrink per step at learning rate 0.5
    "a mapping": ({"lam": {"*/kernel": 0.25}}, 0.25, 0.125),
    "corrected": ({"lam": 0.25, "corrected": "*", "peak_learning_rate": 2.0}, 0.0625, 0.03125),
    "cautious": ({"lam": 0.25, "cautious": True}, 0.25, None),
    "toward": ({"lam": 0.25, "toward": "init"}, 0.25, None),
    "independent": (
        {"lam": 0.25, "coupling": "independent", "peak_learning_rate": 2.0},
        0.125,
        0.0625,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_weight_decay_has_its_row(form: str) -> None:
    """lam counts by its coupling; what depends on more than the coefficients has no shrink."""
    arguments, lam, shrink = FORMS[form]
    model = dense_model()
    model.compile(keras.optimizers.SGD(0.5), "mse")
    decay = l2keras.WeightDecay(**arguments)
    report = l2keras.audit(model, [decay])
    row = report.row("sequential/dense/kernel")
    assert row.lam == pytest.approx(lam)
    assert row.shrink == pytest.approx(shrink)
    plain = l2keras.audit(model, [l2keras.WeightDecay(0.25)])
    assert (report.digest == plain.digest) == (form == "a mapping")


def test_an_audit_takes_no_starting_point() -> None:
    """toward="init" is the weights when fit begins, not when the model was audited."""
    model = dense_model()
    model.compile(keras.optimizers.SGD(0.5), "mse")
    decay = l2keras.WeightDecay(0.25, toward="init")
    l2keras.audit(model, [decay])
    start = np.full((3, 2), 3.0)
    model.get_layer("dense").kernel.assign(start)
    fit_zeros(model, 3, [decay])
    np.testing.assert_array_equal(to_numpy(model.get_layer("dense").kernel), start)


def test_lam_by_depth_is_in_the_rows() -> None:
    """Each row has the lam of its layer."""
    layers = [keras.layers.Dense(3, name=name) for name in ("first", "second")]
    model = keras.Sequential([keras.Input((3,)), *layers], name="mlp")
    report = l2keras.audit(model, [l2keras.WeightDecay(0.25, layer_decay=0.5)])
    assert report.row("mlp/first/kernel").lam == 0.125
    assert report.row("mlp/second/kernel").lam == 0.25


class NeverCalled(keras.Model):  # type: ignore[misc, unused-ignore]
    """Built submodels and no `call`, as a VAE or GAN may have: Keras never calls it built."""

    def __init__(self, name: str = "pair") -> None:
        super().__init__(name=name)
        layer = keras.layers.Dense
        self.encoder = keras.Sequential([keras.Input((3,)), layer(2, name="encoder")])
        self.decoder = keras.Sequential([keras.Input((2,)), layer(3, name="decoder")])
        self.sampling = keras.layers.Lambda(lambda x: x)  # not called before fit

    def train_step(self, *args: Any) -> dict[str, Any]:
        zeros = [keras.ops.zeros(v.shape) for v in self.trainable_variables]
        self.optimizer.apply(zeros, self.trainable_variables)
        return {"loss": keras.ops.zeros(())}


class PartlyCalled(keras.Model):  # type: ignore[misc, unused-ignore]
    """A layer that `call` never reaches has no variables, and never will."""

    def __init__(self) -> None:
        super().__init__(name="partly")
        self.used = keras.layers.Dense(2)
        self.unused = keras.layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.used(inputs)


def _partly_called() -> Any:
    model = PartlyCalled()
    model(np.zeros((1, 3), "float32"))
    return model


@pytest.mark.filterwarnings("ignore:`build..` was called on layer")  # of the unused layer
@pytest.mark.filterwarnings("ignore:The penalty counts now")  # a subclassed model is not copied
@pytest.mark.parametrize("make", [NeverCalled, _partly_called])
def test_a_model_that_has_its_variables_though_keras_does_not_call_all_built(make: Any) -> None:
    """Everything that needs variables works: 1 - 0.5 * 0.5 of W is left, and of W - W_0 here."""
    model = make()
    kernels = [variable for variable in model.trainable_variables if len(variable.shape) == 2]
    optimizer, decay = keras.optimizers.SGD(0.5), l2keras.WeightDecay(0.5)
    rows = l2keras.audit(model, [decay]).rows
    assert [row.path for row in rows if row.decayed] == [v.path for v in kernels]
    attachment = l2keras.attach(model, l2keras.HalfL2(0.5))
    squares = sum(float((to_numpy(v) ** 2).sum()) for v in kernels)
    assert float(to_numpy(l2keras.model_penalty(model))) == pytest.approx(0.25 * squares)
    l2keras.detach(attachment)
    before = [to_numpy(v) for v in kernels]
    zeros = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
    with decay.in_step(model, optimizer):
        optimizer.apply(zeros, model.trainable_variables)
    after = [0.75 * value for value in before]
    for variable, value in zip(kernels, after, strict=True):
        np.testing.assert_allclose(to_numpy(variable), value, rtol=1e-6)
    with l2keras.WeightDecay(0.5, toward="init").in_step(model, optimizer):
        optimizer.apply(zeros, model.trainable_variables)
    for variable, value in zip(kernels, after, strict=True):
        np.testing.assert_allclose(to_numpy(variable), value, rtol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="Keras fits no other without a `call`")
@pytest.mark.parametrize("toward", [None, "init"])
def test_fit_of_a_model_that_is_never_called(toward: str | None) -> None:
    """It decays by 0.25 in a step, or stays where it began, and has its report."""
    model = NeverCalled()
    model.compile(keras.optimizers.SGD(0.5))
    kernels = [variable for variable in model.trainable_variables if len(variable.shape) == 2]
    before = [to_numpy(variable).copy() for variable in kernels]
    decay = l2keras.WeightDecay(0.5, toward=toward)
    model.fit(np.zeros((1, 3)), verbose=0, callbacks=[decay])
    assert decay.report is not None
    assert [row.path for row in decay.report.rows if row.decayed] == [v.path for v in kernels]
    factor = 0.75 if toward is None else 1.0
    for variable, value in zip(kernels, before, strict=True):
        np.testing.assert_allclose(to_numpy(variable), factor * value, rtol=1e-6)


def test_a_model_without_variables_is_none_that_is_never_called() -> None:
    """Unbuilt layers are waited for, inside a model without `call` too."""
    model = NeverCalled()
    model.encoder = keras.Sequential([keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="which is not built"):
        l2keras.audit(model)
