"""Stand-ins for Slurm's commands, where there is no Slurm: they say what a cluster would get."""

from __future__ import annotations

import os
from pathlib import Path

# Starts every task of the array, as the nodes of a cluster would, and answers at once.
SBATCH = """#!/bin/bash
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
export SLURM_ARRAY_JOB_ID=7 SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=localhost
export SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
cp "$1" "$(dirname "$0")/script.sh"
for task in $(seq 0 "$last"); do
  SLURM_JOB_ID=$((8 + task)) SLURM_ARRAY_TASK_ID=$task bash "$(dirname "$0")/script.sh" \
    </dev/null >"$(dirname "$0")/$task.log" 2>&1 &
done
echo "Submitted batch job 7"
"""
REFUSING_SBATCH = """#!/bin/bash
cp "$1" "$(dirname "$0")/script.sh"
echo "sbatch: there is no Slurm here" >&2
exit 1
"""
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do
  case $1 in --output | --error) shift 2 ;; *) shift ;; esac
done
exec "$@"
"""
SACCT = """#!/bin/bash
echo "JobID|State"
"""


def stand_ins(folder: Path, *, runs: bool) -> str:
    """Writes the commands into `folder`; returns a PATH that begins with it.

    Args:
        folder: Where they are; `script.sh` is what sbatch got.
        runs: Whether sbatch runs what it gets, or keeps a copy and fails.
    """
    folder.mkdir()
    sbatch = SBATCH if runs else REFUSING_SBATCH
    for name, text in {"sbatch": sbatch, "srun": SRUN, "sacct": SACCT}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
