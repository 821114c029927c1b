"""Every model of keras.applications can be audited."""

from __future__ import annotations

import keras
import pytest

from tests.support.applications import check_application


def application_names() -> list[str]:
    return sorted(name for name in vars(keras.applications) if name[0].isupper())


@pytest.mark.parametrize("name", application_names())
def test_every_application(name: str) -> None:
    """Keras' own counts, and the optimizer decays all it trains."""
    check_application(name)
