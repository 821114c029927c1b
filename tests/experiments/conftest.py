"""What all tests of the experiments share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hydra.core.hydra_config import HydraConfig


@pytest.fixture(autouse=True)
def _end_the_job_of_hydra() -> Iterator[None]:
    """A test that composes a config leaves Hydra's singleton; the next test has none."""
    yield
    HydraConfig.instance().cfg = None
