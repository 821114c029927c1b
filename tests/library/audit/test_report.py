"""The report: its digest, its text and HTML, and its plain form."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import keras
import pytest

import l2keras
from l2keras._audit.report import AuditReport
from l2keras._audit.rows import CallbackDecay, Finding, Row
from tests.support.models import dense_model, fit_zeros


def row(path: str, **changes: Any) -> Row:
    """A kernel of 4 x 3, not decayed unless `changes` say so."""
    values: dict[str, Any] = {
        "path": path, "shape": (4, 3), "dtype": "float32", "role": path.rsplit("/", 1)[-1],
        "kind": "kernel", "layer": "Dense", "trainable": True,
    }  # fmt: skip
    return Row(**{**values, **changes})


def report(*rows: Row, findings: Any = (), model: str = "mlp") -> AuditReport:
    return AuditReport(model, ("SGD, learning rate 0.5",), rows, tuple(findings))


DECAYED = row(
    "mlp/dense/kernel",
    regularizer="L2(l2=0.05)", lam_regularizer=0.1, lam=0.1, learning_rate=0.5, shrink=0.05,
)  # fmt: skip
FROZEN = row("mlp/frozen/kernel", trainable=False, shape=(2, 2))
FINDING = Finding("warning", "some-code", "Something in <b>.", "Do that.")


def test_totals_in_tensors_and_parameters() -> None:
    """Decayed, not decayed and frozen add up to all."""
    bias = row("mlp/dense/bias", shape=(3,))
    assert report(DECAYED, bias, FROZEN).totals == {
        "decayed": {"tensors": 1, "parameters": 12},
        "not decayed": {"tensors": 1, "parameters": 3},
        "frozen": {"tensors": 1, "parameters": 4},
        "all": {"tensors": 3, "parameters": 19},
    }


def test_the_table_in_full() -> None:
    """The text, by hand: the columns that have something to say, totals, findings with remedies."""
    scalar = row("mlp/scale", shape=(), kind="vector")
    expected = """\
Decay of 'mlp'   digest DIGEST
Optimizer: SGD, learning rate 0.5

variable            shape  regularizer     lam  shrink  steps
-----------------  ------  -----------  ------  ------  -----
mlp/dense/kernel      4x3          0.1     0.1    0.05     20
mlp/scale          scalar            -       -       -      -
mlp/frozen/kernel     2x2            -  frozen       -      -

lam: coefficient of W in the gradient (half convention), all sources together.
shrink: fraction of W lost per step, now; steps: 1 / that.

             tensors  parameters
-----------  -------  ----------
Decayed            1          12
Not decayed        1           1
Frozen             1           4
All                3          17

Findings: 1
* warning [some-code] Something in <b>.
  -> Do that."""
    found = report(DECAYED, scalar, FROZEN, findings=[FINDING])
    assert found.to_text(80).replace(found.digest, "DIGEST") == expected


@pytest.mark.parametrize("width", [80, 120])
def test_long_paths_stay_whole_and_the_rest_within_the_width(width: int) -> None:
    """A path that leaves no room for its numbers has a line of its own; no other line is wider."""
    path = "/".join(["mlp", *["a_long_block_name"] * 5, "kernel"])
    finding = Finding("error", "code", "word " * 60, "word " * 60)
    found = report(
        DECAYED, row(path, lam_optimizer=0.25, lam=0.25, shrink=1e-5), findings=[finding]
    )
    lines = found.to_text(width).splitlines()
    assert all(len(line) <= width for line in lines if line != path)
    place = lines.index(path)
    assert lines[place + 1].split() == ["4x3", "-", "0.25", "0.25", "1e-5", "100,000"]


def test_what_is_not_known_and_what_is_scheduled_is_marked() -> None:
    """A regularizer by its name and lam ?, L1 beside L2, ~ for a schedule, the dtypes if mixed."""
    unknown = row("a/kernel", regularizer="Mine(x=1)", lam_regularizer=None, lam=None)
    both = row("b/kernel", regularizer="L1L2()", lam_regularizer=0.2, l1=0.01, lam=0.2)
    decays = (CallbackDecay(0.25, schedule="x"),)
    scheduled = row("c/kernel", callbacks=decays, lam=0.25, dtype="bfloat16")
    lines = report(unknown, both, scheduled).to_text(100).splitlines()
    cells = {line.split()[0]: line.split()[1:] for line in lines if "/kernel" in line}
    assert cells["a/kernel"] == ["4x3", "float32", "Mine", "-", "?"]
    assert cells["b/kernel"] == ["4x3", "float32", "0.2+L1", "0.01", "-", "0.2"]
    assert cells["c/kernel"] == ["4x3", "bfloat16", "-", "0.25~", "0.25"]
    assert any(line.startswith("~: a schedule") for line in lines)


def test_one_line_for_a_log() -> None:
    """summary() and repr name the model, the digest, the totals and how many findings."""
    found = report(DECAYED, FROZEN, findings=[FINDING])
    assert found.summary() == (
        f"decay of 'mlp': digest {found.digest}, 1 of 2 tensors decayed, "
        "12 of 16 parameters; findings: 1"
    )
    assert repr(found) == f"<AuditReport {found.summary()}>"
    assert str(found) == found.to_text()


def test_the_plain_form_goes_through_json() -> None:
    """to_dict() holds all of it as plain values, infinities and tensors none."""
    decays = (CallbackDecay(0.25, "independent", 0.5),)
    found = report(row("a/kernel", callbacks=decays, lam=0.5, shrink=0.125), findings=[FINDING])
    plain = found.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == json.loads(json.dumps(plain))
    assert plain["rows"][0]["shape"] == [4, 3]
    assert plain["rows"][0]["timescale"] == 8.0
    assert plain["rows"][0]["callbacks"][0]["coupling"] == "independent"
    assert plain["findings"] == [
        {"severity": "warning", "code": "some-code", "message": "Something in <b>.",
         "remedy": "Do that."}
    ]  # fmt: skip
    assert plain["digest"] == found.digest


class Cells(HTMLParser):
    """Collects the text of every cell, and that every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


def test_a_notebook_shows_html() -> None:
    """The same cells as the text, well nested, with names escaped."""
    evil = row("mlp/<script>/kernel", lam_optimizer=0.1, lam=0.1)
    page = report(DECAYED, evil, findings=[FINDING])._repr_html_()
    parser = Cells()
    parser.feed(page)
    assert not parser.open
    assert parser.cells[:7] == [
        "variable", "shape", "regularizer", "optimizer", "lam", "shrink", "steps"
    ]  # fmt: skip
    assert parser.cells[7:14] == ["mlp/dense/kernel", "4x3", "0.1", "-", "0.1", "0.05", "20"]
    assert parser.cells[14] == "mlp/<script>/kernel"
    assert "<script>" not in page
    assert "Something in &lt;b&gt;." in page


def digest(*rows: Row, model: str = "mlp") -> str:
    return report(*rows, model=model).digest


def test_the_digest_is_twelve_hexadecimal_digits() -> None:
    """Short, and the same in every process: the hash of nothing is that of `[]`."""
    assert digest() == "4f53cda18c2b"  # sha256 of "[]", from the shell
    assert len(digest(DECAYED)) == 12


def test_the_digest_ignores_what_is_not_decay() -> None:
    """Automatic numbers, the model's name, values of the rate, dtype, and undecayed variables."""
    base = digest(DECAYED)
    changed = {"learning_rate": 0.1, "shrink": 0.01, "dtype": "bfloat16"}
    values = {**vars(DECAYED), **changed}
    assert digest(Row(**values)) == base
    assert digest(Row(**{**values, "path": "other_7/dense_3/kernel"}), model="other_7") == base
    assert digest(DECAYED, FROZEN, row("mlp/dense/bias")) == base
    assert digest(Row(**{**values, "regularizer": "HalfL2(lam=0.1)"})) == base


@pytest.mark.parametrize(
    "changes",
    [
        {"lam_regularizer": 0.2},
        {"l1": 0.1},
        {"lam_optimizer": 0.1},
        {"lam_optimizer": 0.1, "lam_regularizer": 0.0},
        {"shape": (3, 4)},
        {"path": "mlp/head/kernel"},
        {"callbacks": (CallbackDecay(0.1),)},
        {"callbacks": (CallbackDecay(0.1, "coupled"),)},
        {"callbacks": (CallbackDecay(0.1, schedule="cosine"),)},
        {"callbacks": (CallbackDecay(0.1, schedule="linear"),)},
        {"regularizer": "Mine(x=1)", "lam_regularizer": None},
        {"regularizer": "Mine(x=2)", "lam_regularizer": None},
    ],
    ids=str,
)
def test_the_digest_tells_decay_apart(changes: dict[str, Any]) -> None:
    """Another lam, source, coupling, schedule, shape or place is another digest."""
    independent = (CallbackDecay(0.1, "independent"),)
    others: list[Any] = [{}, {"lam_regularizer": 0.4}, {"callbacks": independent}]
    base = [digest(Row(**{**vars(DECAYED), **other})) for other in others]
    assert digest(Row(**{**vars(DECAYED), **changes})) not in base


def test_the_digest_tells_numbered_layers_apart() -> None:
    """block_1 decayed is not block_2 decayed, although numbers do not count."""
    first = row("mlp/block_1/kernel", lam_optimizer=0.1, lam=0.1)
    second = row("mlp/block_2/kernel", lam_optimizer=0.1, lam=0.1)
    plain = row("mlp/block_1/kernel"), row("mlp/block_2/kernel")
    assert digest(first, plain[1]) != digest(plain[0], second)


def test_one_script_run_twice_in_a_session_has_one_digest(tmp_path: Any) -> None:
    """Neither the names that Keras counts up, nor training, nor saving changes it."""

    def build() -> Any:
        layers = [keras.layers.Dense(3, kernel_regularizer="l2") for _ in range(2)]
        model = keras.Sequential([keras.Input((3,)), *layers])
        rate = keras.optimizers.schedules.CosineDecay(0.5, 100)
        model.compile(keras.optimizers.SGD(rate), "mse")
        return model

    decay = l2keras.WeightDecay(keras.optimizers.schedules.CosineDecay(0.1, 50), include="*bias")
    first, second = build(), build()
    assert first.weights[0].path != second.weights[0].path
    expected = l2keras.audit(first, [decay]).digest
    assert l2keras.audit(second, [decay]).digest == expected
    fit_zeros(first, 3, [decay])
    assert l2keras.audit(first, [decay]).digest == expected
    first.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert l2keras.audit(loaded, [decay]).digest == expected
    longer = l2keras.WeightDecay(keras.optimizers.schedules.CosineDecay(0.1, 51), include="*bias")
    assert l2keras.audit(second, [longer]).digest != expected


def test_callables_of_lam_are_told_apart_by_their_values() -> None:
    """Two functions of the step have equal digests where they are equal at the probed steps."""

    def digest_of(function: Any) -> str:
        return l2keras.audit(dense_model(), [l2keras.WeightDecay(function)]).digest

    assert digest_of(lambda step: 0.1 * step) == digest_of(lambda step: step / 10)
    assert digest_of(lambda step: 0.1 * step) != digest_of(lambda step: 0.2 * step)


def test_half_l2_and_twice_the_l2_of_keras_have_one_digest() -> None:
    """HalfL2(0.1) and L2(0.05) decay alike; decoupled decay with 0.1 does not."""
    half = l2keras.audit(dense_model(regularizer=l2keras.HalfL2(0.1))).digest
    assert l2keras.audit(dense_model(regularizer=keras.regularizers.L2(0.05))).digest == half
    assert l2keras.audit(dense_model(), [l2keras.WeightDecay(0.1)]).digest != half
