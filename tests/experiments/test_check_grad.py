"""The two reference tables, computed live."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from experiments import check_grad


def test_every_check_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """TensorFlow's and torch's tables, HalfL2's gradient and both steps agree; status 0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["check_grad"])
        assert check_grad.main() == 0
    printed = capsys.readouterr().out
    assert printed.count("equal to 8 decimals") == 6
    assert "2.6863001 " in printed
    assert "2.29158508" in printed


def test_any_difference_is_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table that is off by 1e-8 in one entry ends in exit status 1 and says so."""
    wrong = check_grad.PYTORCH_TABLE.copy()
    wrong[0, 0] += 1e-8
    monkeypatch.setattr(check_grad, "PYTORCH_TABLE", wrong)
    monkeypatch.setattr(sys, "argv", ["check_grad"])
    assert check_grad.main() == 1
    assert capsys.readouterr().out.count("DIFFERENT") == 2  # HalfL2's and torch's


def test_without_torch_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without torch the other checks run and the missing one is named."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["check_grad"])
    assert check_grad.main() == 0
    printed = capsys.readouterr().out
    assert "torch is not installed" in printed
    assert printed.count("equal to 8 decimals") == 3


def test_the_tables_differ_by_one_coefficient() -> None:
    """TensorFlow's table minus PyTorch's is 0.9*W, the factor of two at c = 0.9."""
    _, w = check_grad.inputs()
    apart = check_grad.TENSORFLOW_TABLE - check_grad.PYTORCH_TABLE
    np.testing.assert_allclose(apart, 0.9 * w, atol=1e-8)
