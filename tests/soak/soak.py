#!/usr/bin/env python3
"""A cluster under load and faults for a long time: nothing is lost, memory and disk stay flat.

    soak.py [--seconds S] [--seed X] [--keep]

Three po-controld, eight po-workerd with a command that costs next to nothing, a stream of tasks and of runs of a pipeline, a fault
every few seconds: nodes and workers killed and paused, links cut in both directions or one, refused, slowed. At the end everything is
mended, every task and run must have come to its one right end, and everything finished is looked at once more.

Flat: of each node, the median of the second half of its samples is at most GROWTH times that of the first half, plus SLACK, plus what
the tasks finished in between may take: the cluster keeps the last 100,000 of them. Exit status 0 if all that holds.
"""

import argparse
import json
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cluster"))

import harness  # noqa: E402
from local_cluster import PoctlError, environment, wait_until  # noqa: E402
from relayed import Faults, RelayedCluster  # noqa: E402

ELECTION_MS = 500
# Small, so that segments roll and snapshots are taken all the time.
OPTIONS = ("--election-ms", str(ELECTION_MS), "--heartbeat-ms", str(ELECTION_MS // 10), "--snapshot-bytes", "1MiB",
           "--trailing-bytes", "256KiB", "--segment-bytes", "1MiB")
WORKERS = [f"w{i}" for i in range(1, 9)]
WORKER_OPTIONS = ("--heartbeat-ms", "500", "--drain-ms", "1000")
COMMAND = ["sh", "-c", "read -r input; printf '{\"input\":%s,\"token\":%s}' \"$input\" \"$PO_FENCING_TOKEN\""]
PAUSE_US = 500000  # of each of the 16 threads of load, between two tasks: at most 32 tasks a second
FINISH_S = 400
SAMPLE_S = 2
WARM_UP = 0.1  # of the time: not counted
GROWTH = 1.1
SLACK_BYTES = {"memory": 4 << 20, "disk": 8 << 20}  # a disk has segments ahead and two snapshots
TASK_BYTES = 512  # of each finished task, of which 100,000 are kept; bench_model measures 411 in memory


class SoakFaults(Faults):
    """Workers die and freeze, too."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.kinds += [self.kill_worker, self.kill_worker, self.pause_worker]

    def _worker(self):
        return self.cluster.workers[self.random.choice(sorted(self.cluster.workers))]

    def kill_worker(self, _target):
        self._worker().kill()
        self._hold(0, 6)

    def pause_worker(self, _target):
        """Until it is marked offline, sometimes: its late answers are refused then."""
        self._worker().signal(signal.SIGSTOP)
        self._hold(1, 6)

    def mend(self):
        super().mend()
        self._revive(self.cluster.workers.values())


class Samples:
    """Memory and disk of each node, as time goes by."""

    def __init__(self, cluster):
        self.cluster, self.rows = cluster, []  # (time, node, memory, disk)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.ended.wait(SAMPLE_S):
            for name, node in self.cluster.nodes.items():
                memory = self._memory(node.process.pid)
                if memory:
                    self.rows.append((time.monotonic(), name, memory, self._disk(self.cluster.data_dir(name))))

    @staticmethod
    def _memory(pid):
        try:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return 0  # it was killed
        return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0)

    @staticmethod
    def _disk(folder):
        total = 0
        for path in folder.rglob("*"):
            try:
                total += path.stat().st_blocks * 512
            except OSError:
                pass  # a segment that was removed meanwhile
        return total

    def stop(self):
        self.ended.set()
        self.thread.join()

    def growth(self, finished):
        """(problems, {node: {what: [median of the first half, of the second, limit]}}), in MiB"""
        problems, report = [], {}
        begin, end = self.rows[0][0], self.rows[-1][0]
        begin += (end - begin) * WARM_UP
        middle = (begin + end) / 2
        for node in self.cluster.nodes:
            report[node] = {}
            for what, column in (("memory", 2), ("disk", 3)):
                first = [row[column] for row in self.rows if row[1] == node and begin <= row[0] < middle]
                second = [row[column] for row in self.rows if row[1] == node and row[0] >= middle]
                if not first or not second:
                    problems.append(f"{node}: too few samples of its {what}; let it run longer")
                    continue
                limit = statistics.median(first) * GROWTH + SLACK_BYTES[what] + TASK_BYTES * finished // 2
                report[node][what] = [round(n / (1 << 20), 1) for n in (statistics.median(first), statistics.median(second), limit)]
                if statistics.median(second) > limit:
                    problems.append(f"{node}: {what} grew: {report[node][what]} MiB (first half, second half, limit)")
        return problems, report


class Soak:
    def __init__(self, folder, seed):
        self.folder, self.seed = folder, seed
        self.cluster = RelayedCluster(harness.BUILD, folder, harness.NAMES, node_options=OPTIONS)
        self.load = None

    def start(self):
        capabilities = self.folder / "capabilities.json"
        capabilities.write_text(json.dumps({"capabilities": [{"name": "soak:work", "command": COMMAND, "max_concurrency": 2}]}))
        self.cluster.start()
        wait_until(self.cluster.leader, what="a leader")
        for worker in WORKERS:
            self.cluster.worker(worker, "default", capabilities, WORKER_OPTIONS)
        load = [str(harness.BUILD / "tests" / "soak" / "soak_load"), self.cluster.controllers(), f"s{self.seed}", str(PAUSE_US)]
        self.load = subprocess.Popen(load, stdout=subprocess.PIPE, stderr=open(self.folder / "load.log", "w"), text=True,
                                     env=environment())

    def leader(self):
        try:
            return self.cluster.leader(timeout_s=2)
        except (PoctlError, subprocess.TimeoutExpired):
            return None

    def run(self, seconds):
        """Returns (problems, report)."""
        self.start()
        samples = Samples(self.cluster)
        faults = SoakFaults(self.cluster, self.seed, self.leader, lambda text: print(text, flush=True), ELECTION_MS / 1000)
        faults.run(seconds)
        samples.stop()
        problems = faults.ended + [f"{d.name} ended by itself with {d.process.returncode}" for d in self.cluster.daemons() if not d.running()]
        self.load.send_signal(signal.SIGUSR1)
        outcome, _ = self.load.communicate(timeout=FINISH_S)
        if self.load.returncode != 0:
            problems.append(f"the load: exit code {self.load.returncode}: {(self.folder / 'load.log').read_text()[-2000:]}")
        counts = json.loads(outcome)
        grown, report = samples.growth(counts["finished"])
        return problems + grown, {"seed": self.seed, "faults": faults.count, **counts, "mib_first_second_limit": report}

    def stop(self):
        if self.load and self.load.poll() is None:
            self.load.kill()
            self.load.wait()
        for daemon in self.cluster.daemons():
            if daemon.running():
                daemon.signal(signal.SIGCONT)
        self.cluster.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", action="store_true", help="keep data and logs")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"seed {options.seed}, {options.seconds:g} s, in {folder}", flush=True)
    soak = Soak(folder, options.seed)
    try:
        problems, report = soak.run(options.seconds)
    finally:
        soak.stop()
    problems += harness.crashes_in(folder)
    print(json.dumps(report))
    for problem in problems:
        print(f"PROBLEM {problem}")
    if problems:
        print(f"data and logs are kept in {folder}; again with: {sys.argv[0]} --seconds {options.seconds:g} --seed {options.seed}")
        sys.exit(1)
    if not options.keep:
        shutil.rmtree(folder)
    print(f"{report['finished']} tasks and {report['runs']} runs came to their one end through {report['faults']} faults")


if __name__ == "__main__":
    main()
