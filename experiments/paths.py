"""Where the experiments keep what they make, whatever the working directory."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
CONFIGS = PROJECT / "configs"
RUNS = PROJECT / "runs"
