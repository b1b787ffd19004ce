"""pipeorch: three control nodes, one, or a worker that is a cluster of its own; and, as a worker, that worker.

    with_pipeorch.py ADDRESSES     the Python worker, in a process of its own
"""

import os
import pathlib
import sys
import time

import pipeorch
from measure import TASKS_AT_ONCE

TOP = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("BUILD_ROOT", TOP / "build"))
NOTHING = "bench:nothing"
IN_C = "text:upper"  # what examples/worker.c offers


def new_worker(*where):
    worker = pipeorch.Worker(*where)

    @worker.task(NOTHING, max_concurrency=TASKS_AT_ONCE)
    def nothing(value: object, /) -> object:
        return value

    return worker


if __name__ == "__main__":
    new_worker("bench-python", sys.argv[1]).run()
    sys.exit()

import measure  # noqa: E402  what the worker has no use for
import processes  # noqa: E402

sys.path.insert(0, str(TOP / "examples" / "energy"))
from local_cluster import Cluster  # noqa: E402


class Pipeorch(measure.System):
    name = "pipeorch"

    def version(self):
        return pipeorch.library_version

    def one(self, value):
        return self.client.submit(NOTHING, input=value).result()

    def many(self, values):
        tasks = self.client.submit_many(NOTHING, values)
        return [task.output for task in self.client.wait_many(tasks)]


class WithNodes(Pipeorch):
    """Control nodes and the worker are processes of their own, on loopback."""

    def __init__(self, variant, count):
        super().__init__(variant)
        self.count = count

    def start(self):
        self.fsync = "each write" if self.count == 1 else f"each write, {self.count // 2 + 1} of {self.count} nodes"
        cluster = Cluster(BUILD, self.folder, {f"cp{i + 1}": "local" for i in range(self.count)})
        self.ends.callback(cluster.stop)
        cluster.start()
        self.servers = [node.process.pid for node in cluster.nodes.values()]
        self.addresses = cluster.controllers()
        self.workers.append(processes.python(self, "worker", [__file__, self.addresses]))
        self.client = pipeorch.Client(self.addresses)
        self.ends.callback(self.client.close)

    def more(self):
        """The same cycle with a worker written in C, one beside the other."""
        processes.start(self, "worker-c", [BUILD / "examples" / "worker", self.addresses])
        self.in_c(0)
        in_python, in_c = [], []
        for _ in range(measure.WARM_ROUNDS):
            for cycle, measured in ((self.one, in_python), (self.in_c, in_c)):
                began = time.perf_counter()
                cycle("a")
                measured.append(time.perf_counter() - began)
        p50, p50_c = (measure.quantile_us(sorted(measured), 0.5) for measured in (in_python, in_c))
        return {"warm_p50_beside_c_us": p50, "warm_p50_c_us": p50_c, "warm_per_c": round(p50 / p50_c, 2)}

    def in_c(self, value):
        return self.client.submit(IN_C, input=str(value)).result()


class Standalone(Pipeorch):
    """As in the quickstart: everything in one process, which counts as the worker."""

    fsync = "never: in memory"

    def start(self):
        worker = self.ends.enter_context(new_worker("bench-python"))
        self.workers.append(os.getpid())
        self.client = worker.client


def make(variant):
    if variant == "standalone":
        return Standalone(variant)
    return WithNodes(variant, {"three nodes": 3, "one node": 1}[variant])
