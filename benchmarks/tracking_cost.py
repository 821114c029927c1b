"""What the record of a run costs: short runs with MLflow and without, alternated in one process.

    python -m benchmarks.tracking_cost [RUNS]

Three sides: training alone; with the state that a run keeps (a checkpoint each epoch, the model's
file at the end); with MLflow besides, as `experiments.train` does. Then the time that
`experiments.report` takes to read all of them and to make its page.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from experiments import cli, paths, progress
from experiments.schema import Config

SHORT = ["training.epochs=10", "training.progress=false"]
METHODS = ("half_l2", "decoupled")


def main(runs: int) -> None:
    cli.register("train", Config, "experiments.train")
    from experiments import device, report, train
    from experiments.data import load_data
    from experiments.tracking import Store
    from experiments.trial import TrialResult, run_trial

    folder = Path(tempfile.mkdtemp())
    with initialize_config_dir(str(paths.CONFIGS), version_base="1.3"):
        nodes = [
            compose("config", [*SHORT, f"regularization={METHODS[i % 2]}", f"seed={i // 2}",
                               f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"])
            for i in range(runs + 2)
        ]  # fmt: skip

    def trained(node: DictConfig, checkpoint_path: Path | None = None) -> TrialResult:
        config = cli.typed(node)
        device.set_up(config)
        data = load_data(config.data, config.seed, config.training.dtype.value)
        return run_trial(config, data, checkpoint_path=checkpoint_path)

    def kept(node: DictConfig) -> None:
        path = folder / "run.state"
        trained(node, path).model.save(folder / "model.keras")
        path.unlink()

    sides: dict[str, Callable[[DictConfig], object]]
    sides = {"trained": trained, "kept": kept, "recorded": train.train}
    for node in nodes[:2]:  # imports, the store
        train.train(node)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with progress.bar(runs, "runs") as advance:
        for number, node in enumerate(nodes[2:]):
            order = list(sides)[number % 3 :] + list(sides)[: number % 3]
            for name in order:
                start = time.perf_counter()
                sides[name](node)
                seconds[name].append(time.perf_counter() - start)
            advance({})
    whole = statistics.median(seconds["recorded"])
    print(f"{runs} runs of 10 epochs, {whole:.3f} s each (medians of paired differences):")
    for what, side, other in (
        ("MLflow", "recorded", "kept"),
        ("checkpoints and the model's file", "kept", "trained"),
        ("both", "recorded", "trained"),
    ):
        pairs = zip(seconds[side], seconds[other], strict=True)
        cost = statistics.median(a - b for a, b in pairs)
        print(f"{what}: {cost * 1e3:.0f} ms, {cost / whole:.1%} of the wall time")
    store = Store(f"sqlite:///{folder / 'mlflow.db'}", "l2keras")
    start = time.perf_counter()
    report.write(store, None, None, folder / "report")
    print(f"report over them: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
