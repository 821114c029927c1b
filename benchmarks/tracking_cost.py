"""What the record of a run costs: short runs with MLflow and without, alternated in one process.

    python -m benchmarks.tracking_cost [RUNS]

Then the time that `experiments.report` takes to read all of them and to make its page.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from hydra import compose, initialize_config_dir

from experiments import cli, paths, progress
from experiments.schema import Config

SHORT = ["training.epochs=10", "training.progress=false"]
METHODS = ("half_l2", "decoupled")


def main(runs: int) -> None:
    cli.register("train", Config, "experiments.train")
    from experiments import device, report, train
    from experiments.data import load_data
    from experiments.tracking import Store
    from experiments.trial import run_trial

    folder = Path(tempfile.mkdtemp())
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    with initialize_config_dir(str(paths.CONFIGS), version_base="1.3"):
        nodes = [
            compose("config", [*SHORT, f"regularization={METHODS[i % 2]}", f"seed={i // 2}",
                               f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"])
            for i in range(runs)
        ]  # fmt: skip
    device.set_up(cli.typed(nodes[0]))
    train.train(nodes[0])  # imports, the store
    with progress.bar(runs, "runs") as advance:
        for node in nodes[1:]:
            config = cli.typed(node)

            def without(config: Config = config) -> None:
                device.set_up(config)
                data = load_data(config.data, config.seed, config.training.dtype.value)
                run_trial(config, data)

            def with_mlflow(node: object = node) -> None:
                train.train(node)

            for name, run in (("with", with_mlflow), ("without", without)):
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
            advance({})
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    share = 1 - medians["without"] / medians["with"]
    print(f"{runs} runs: {medians['with']:.3f} s each, {medians['without']:.3f} s without MLflow: ")
    print(f"the record takes {share:.1%} of the wall time")
    halves = [statistics.median(seconds["with"][i::2][-runs // 8 :]) for i in (0, 1)]
    print(f"the last eighth: {statistics.mean(halves):.3f} s each")
    store = Store(f"sqlite:///{folder / 'mlflow.db'}", "l2keras")
    start = time.perf_counter()
    report.write(store, None, None, folder / "report")
    print(f"report over them: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
