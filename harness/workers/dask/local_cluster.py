"""A Dask cluster on this machine, in a process of its own, for as long as its parent lives.

In the process that runs a suite's comparison, Dask would start its workers by importing that
process's script once more; here there is none of the user's.
"""

from __future__ import annotations

import sys

from harness.workers.parent_death import die_with


def main() -> None:
    """Start as many workers as are asked for, say where the scheduler is, and wait for the end."""
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
