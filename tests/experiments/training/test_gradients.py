"""The two reference tables, computed live."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from l2keras_experiments.training import gradients


def test_every_check_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """TensorFlow's and torch's tables, HalfL2's gradient and both steps agree; status 0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["check_grad"])
        assert gradients.main() == 0
    printed = capsys.readouterr().out
    assert printed.count("equal to 8 decimals") == 6
    assert "2.6863001 " in printed
    assert "2.29158508" in printed


def test_the_greeting_of_tensorflow_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its C++ code writes to stderr past Python, whatever TF_CPP_MIN_LOG_LEVEL is."""

    def greeting(with_torch: bool) -> list[gradients.Check]:
        os.write(2, b"oneDNN custom operations are on.\n")
        return []

    monkeypatch.setattr(gradients, "checks", greeting)
    monkeypatch.setattr(sys, "argv", ["check_grad"])
    assert gradients.main() == 0
    assert capfd.readouterr().err == ""


def test_any_difference_is_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table that is off by 1e-8 in one entry ends in exit status 1 and says so."""
    wrong = gradients.PYTORCH_TABLE.copy()
    wrong[0, 0] += 1e-8
    monkeypatch.setattr(gradients, "PYTORCH_TABLE", wrong)
    monkeypatch.setattr(sys, "argv", ["check_grad"])
    assert gradients.main() == 1
    assert capsys.readouterr().out.count("DIFFERENT") == 2  # HalfL2's and torch's


def test_without_torch_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without torch the other checks run and the missing one is named."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["check_grad"])
    assert gradients.main() == 0
    printed = capsys.readouterr().out
    assert "torch is not installed" in printed
    assert printed.count("equal to 8 decimals") == 3


def test_the_tables_differ_by_one_coefficient() -> None:
    """TensorFlow's table minus PyTorch's is 0.9*W, the factor of two at c = 0.9."""
    _, w = gradients.inputs()
    apart = gradients.TENSORFLOW_TABLE - gradients.PYTORCH_TABLE
    np.testing.assert_allclose(apart, 0.9 * w, atol=1e-8)
