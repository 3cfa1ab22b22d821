"""The recipes for clusters, followed as far as one machine allows."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import harness

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "clusters.md").read_text()

pytest.importorskip("dask_jobqueue")

SBATCH = """#!/bin/sh
# Stands in for SLURM's: takes a job that asks for what the recipe says, and begins it at once.
for script in "$@"; do :; done
cat "$script" >>"$JOBS/scripts"
cp "$script" "$JOBS/job$$"
setsid sh "$JOBS/job$$" >>"$JOBS/log" 2>&1 &
echo "Submitted batch job $!"
"""

SCANCEL = """#!/bin/sh
echo "$@" >>"$JOBS/cancelled"
for job in "$@"; do kill -- "-$job" 2>/dev/null; done
exit 0
"""

SPEC = """
suite: small
seeds: 4
devices: [cpu]
objectives:
  bowl: {class: sphere, steps: 5}
optimizers:
  sgd: {class: "torch.optim:SGD", hyperparameters: {lr: [0.1, 0.2]}}
timing: {rounds: 3, seconds: 2}
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.exhaustive
def test_the_recipe_for_slurm(tmp_path: Path) -> None:
    """The script as it stands, with fewer and smaller jobs, on the loopback interface."""
    (block,) = (
        b for b in re.findall(r"^```python[^\n]*\n(.*?)^```", PAGE, re.M | re.S) if "SLURM" in b
    )
    script = block
    for stands, here in (
        ("jobs=10", "jobs=2"),
        ("cores=8", "cores=1"),
        ("processes=8", "processes=1"),
        ('["--no-dashboard"]', '["--no-dashboard"], interface="lo"'),
    ):
        assert stands in script
        script = script.replace(stands, here)
    (tmp_path / "on_slurm.py").write_text(script)
    (tmp_path / "benchmarks.yaml").write_text(SPEC)
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(stat.S_IRWXU)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "JOBS": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-P", "on_slurm.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("index.html")
    results = harness.read(tmp_path / "reports" / "small")
    assert list(results.trials["status"]) == ["ok"] * 8
    asked = (tmp_path / "scripts").read_text()
    assert asked.count("#SBATCH -p normal\n") == 2
    assert asked.count("#SBATCH -t 02:00:00\n") == 2
    assert len((tmp_path / "cancelled").read_text().split()) == 2
