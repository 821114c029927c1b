"""conventions: what it lists, and how it is printed."""

from __future__ import annotations

import pytest

from l2keras import conventions

# A system that is renamed breaks somebody's command.
PROMISED = """
half_l2 keras.L2 keras.weight_decay tf.l2_loss torch.SGD torch.Adam torch.AdamW
optax.add_decayed_weights optax.add_decayed_weights.after optax.adamw tfa.SGDW tfa.AdamW
keras_adamw hf.AdamWeightDecay timm.AdamW mosaicml.DecoupledAdamW mxnet.SGD paddle.L2Decay caffe
fastai fastai.l2_reg sklearn.Ridge sklearn.Ridge.half_mean sklearn.Ridge.sum
sklearn.LogisticRegression sklearn.MLPClassifier xgboost.lambda
"""


def test_it_lists_every_system_once() -> None:
    """Under its promised name, with an update rule, lam and a source that names a file."""
    rows = conventions()
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert set(PROMISED.split()) <= set(names)
    for row in rows:
        assert "c" in row.lam
        assert "c" in row.update
        assert row.source.endswith((".py", ".h", ".cpp"))
        assert row.kind in ("coupled", "decoupled", "independent", "fixed")
        assert (row.name + row.update + row.note).isascii()


def test_the_formulas_are_those_of_the_papers() -> None:
    """lam as it is printed."""
    formulas = {row.name: row.lam for row in conventions()}
    expected = {
        "half_l2": "c",
        "keras.L2": "2*c",
        "tfa.SGDW": "c/eta",
        "keras_adamw": "c/(eta*sqrt(num_steps))",
        "mosaicml.DecoupledAdamW": "c/eta_init",
        "sklearn.Ridge": "2*c/num_samples",
        "sklearn.LogisticRegression": "1/(c*num_samples)",
        "sklearn.MLPClassifier": "c/batch_size",
    }
    assert {name: formulas[name] for name in expected} == expected


@pytest.mark.parametrize(("width", "fitting"), [(80, 2), (120, 3), (200, 4)])
def test_the_table_is_as_wide_as_the_terminal(
    width: int, fitting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns that do not fit stand below their row; those that do are aligned."""
    monkeypatch.setenv("COLUMNS", str(width))
    rows = conventions()
    lines = repr(rows).splitlines()
    table = lines[: lines.index("")]
    assert max(map(len, table)) <= width
    assert len(table) == (1 + len(rows)) * (5 - fitting)
    head, *firsts = table[:: 5 - fitting]
    assert head.split() == ["name", "lam", "update", "source"][:fitting]
    for line, row in zip(firsts, rows, strict=True):
        assert line.split()[:2] == [row.name, row.lam]
        assert line.index(row.lam, len(row.name)) == head.index("lam")
