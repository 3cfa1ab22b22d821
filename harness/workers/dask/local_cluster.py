"""A Dask cluster on this machine, in a process of its own that lives as long as its parent.

In the process that runs a suite's comparison, Dask would start its workers by importing that
process's script once more; here there is none of the user's.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from harness.errors import BadInput
from harness.provenance import environment
from harness.workers.parent_death import die_with

CLOSE_SECONDS = 10.0
"""Seconds in which the cluster has to end on its own."""


@contextlib.contextmanager
def local_cluster(size: int) -> Iterator[str]:
    """Start a cluster of so many workers, and end it with the block; yields its address.

    Raises:
        BadInput: If it can't be started.
    """
    arguments = [str(os.getpid()), str(size)]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "harness.workers.dask.local_cluster", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C is the coordinator's to handle
            env=environment.inherited(),
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().decode().strip()
            if not address:
                process.wait()
                log.seek(0)
                last = log.read().decode(errors="replace").strip().rpartition("\n")[2]
                raise BadInput.of_file("dask", f"a cluster can't be started here: {last}")
            yield address
        finally:
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(CLOSE_SECONDS)
            process.kill()


def main() -> None:
    """Start as many workers as are asked for, print the scheduler's address, wait for the end."""
    die_with(int(sys.argv[1]))
    import dask
    from distributed import LocalCluster

    # Trials have processes of their own: what a worker itself needs is small, and nobody looks on.
    dask.config.set({"distributed.worker.memory.terminate": False})
    with LocalCluster(
        n_workers=int(sys.argv[2]),
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        memory_limit=0,
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
