"""What several test files share: models, servers, stores, and how tests are chosen."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
