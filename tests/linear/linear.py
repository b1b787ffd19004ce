#!/usr/bin/env python3
"""Histories of a three-process cluster under faults, judged by an outside checker (Porcupine; see check/).

    linear.py [--histories N] [--seconds S] [--seed X] [--parallel P] [--tally FILE] [--keep] [--wrong]

Each history: three processes of linear_node, which embed a node and use registers of their own in its log; two of linear_client,
which use tasks and the registry over the network; a relay between all of them; a schedule of faults from the seed: nodes killed,
paused longer than an election, cut off in both directions or in one, slowed, all restarted. At the end everything is mended and
read once more. --wrong: reads of registers skip their barrier; then the checker must object, and it is an error if it does not.

Exit status 0 if every history is linearizable (with --wrong: if none is). What is not is kept: histories, logs, the schedule.
Needs the programs of the build folder (BUILD_ROOT, by default build/) and Go.
"""

import argparse
import concurrent.futures
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cluster"))

import harness  # noqa: E402
from local_cluster import Daemon, wait_until  # noqa: E402
from relayed import Faults, RelayedCluster  # noqa: E402

NODES = ("n1", "n2", "n3")
CLIENTS = ("c1", "c2")
ELECTION_MS = 300
ROLE_LEADER = 3
FINAL_LIMIT_S = 45
OPERATIONS_MIN = 50  # of known outcome, of each model: fewer would prove nothing
LOG_LOCK = threading.Lock()


class LinearCluster(RelayedCluster):
    """Processes of linear_node instead of po-controld."""

    def __init__(self, folder, seed, wrong):
        self.seed, self.wrong = seed, wrong
        super().__init__(harness.BUILD, folder, {node: "default" for node in NODES})
        self.clients = {name: self._client(name) for name in CLIENTS}

    def program(self, name):
        return str(harness.BUILD / "tests" / "linear" / name) if name.startswith("linear_") else super().program(name)

    def prefix(self, name):
        return self.folder / name

    def node_command(self, node, zone, options=()):
        return [self.program("linear_node"), "--name", node, "--data-dir", str(self.data_dir(f"{node}.data")),
                "--members", self.members(), "--history", str(self.prefix(node)), "--seed", str(self.seed),
                "--listen", self.peer_ports[node].address, "--advertise", self.peer_address(node),
                "--worker-listen", self.worker_ports[node].address, "--worker-advertise", self.worker_address(node),
                "--election-ms", str(ELECTION_MS), "--heartbeat-ms", str(ELECTION_MS // 10),
                *(["--stale-reads", "--think-us", "1000"] if self.wrong else []), *options]

    def _client(self, name):
        command = [self.program("linear_client"), "--addresses", self.controllers(), "--name", name,
                   "--history", str(self.prefix(name)), "--seed", str(self.seed)]
        return Daemon(name, command, self.folder / f"{name}.log")

    def daemons(self):
        return [*self.clients.values(), *self.nodes.values()]

    def leader(self, timeout_s=0):
        """Who says so in the highest term, without asking anyone."""
        best = (0, None)
        for node in self.nodes:
            try:
                role, term = map(int, (self.folder / f"{node}.role").read_text().split())
            except FileNotFoundError:
                continue
            if role == ROLE_LEADER and self.nodes[node].running():
                best = max(best, (term, node))
        return best[1]

    def finish(self):
        """Everyone reads all once more; then they stop. Raises if one cannot, or ended in another way than it should."""
        for daemon in self.daemons():
            daemon.signal(signal.SIGUSR1)
        for daemon in self.daemons():
            def done(daemon=daemon):
                assert daemon.running(), f"{daemon.name} ended with {daemon.process.returncode}: {daemon.log_text()[-600:]}"
                return self.prefix(f"{daemon.name}.done").exists()

            wait_until(done, FINAL_LIMIT_S, f"the last reads of {daemon.name}")
        for daemon in [*self.clients.values(), *self.nodes.values()]:
            code = daemon.stop()
            assert code == 0, f"{daemon.name} ended with {code}: {daemon.log_text()[-600:]}"

    def kill_all(self):
        for daemon in self.daemons():
            if daemon.running():
                daemon.signal(signal.SIGCONT)
            daemon.kill()


def record(folder, seed, seconds, wrong):
    """One history. Returns the number of faults."""
    cluster = LinearCluster(folder, seed, wrong)
    schedule = open(folder / "schedule.txt", "w", buffering=1)
    try:
        cluster.start()
        wait_until(cluster.leader, what="a leader")
        for client in cluster.clients.values():
            client.start()
        faults = Faults(cluster, seed, cluster.leader, lambda text: print(text, file=schedule), ELECTION_MS / 1000)
        faults.run(seconds)
        assert not faults.ended, f"while faults went on: {faults.ended}"
        cluster.finish()
        crashes = harness.crashes_in(folder)
        assert not crashes, crashes
        return faults.count
    finally:
        cluster.kill_all()
        cluster.release()
        schedule.close()


def build_checker():
    """The checker, built. Says what is missing if it cannot be."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if not go:
        sys.exit("linear.py: no go program: install Go (tests/install-deps.sh --ci does on Debian)")
    checker = harness.BUILD / "tests" / "linear" / "check"
    for command in ([go, "vet", "."], [go, "test", "."], [go, "build", "-buildvcs=false", "-o", str(checker), "."]):
        ran = subprocess.run(command, cwd=HERE / "check", capture_output=True, text=True)
        if ran.returncode != 0:
            sys.exit(f"linear.py: {' '.join(command)} failed in {HERE / 'check'}; if it could not fetch the module that go.mod names, "
                     f"this machine's go cannot reach a module proxy:\n{ran.stdout}{ran.stderr}")
    return checker


def judge(checker, folder):
    """(exit code, the checker's last line decoded, all it said)"""
    command = [str(checker), "-at-least", str(OPERATIONS_MIN), "-visualize", str(folder / "picture.html"), str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True)
    lines = ran.stdout.strip().splitlines()
    return ran.returncode, json.loads(lines[-1]) if lines else {}, ran.stdout + ran.stderr


def one(checker, seed, options):
    """Record and judge; returns whether it went as it should."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"linear-{seed}-"))
    began, text, faults, verdict = time.monotonic(), "", 0, {}
    try:
        faults = record(folder, seed, options.seconds, options.wrong)
        code, verdict, text = judge(checker, folder)
        outcome = verdict.get("verdict", "malformed")
        good = code == (1 if options.wrong else 0)
    except (AssertionError, TimeoutError, OSError, subprocess.TimeoutExpired) as error:
        outcome, good, text = "failed", False, f"{type(error).__name__}: {error}\n"
    row = {"seed": seed, "outcome": outcome, "wrong_reads": options.wrong, "faults": faults, "seconds": round(time.monotonic() - began, 1),
           **{k: verdict.get(k) for k in ("completed", "open", "partitions")}}
    with LOG_LOCK:
        print(json.dumps(row), flush=True)
        if options.tally:
            with open(options.tally, "a") as tally:
                tally.write(json.dumps(row) + "\n")
        if not good:
            print(f"seed {seed}: {text}kept in {folder}; again with: {sys.argv[0]} --histories 1 --seconds {options.seconds} --seed {seed}"
                  f"{' --wrong' if options.wrong else ''}", flush=True)
    if good and not options.keep:
        shutil.rmtree(folder)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15, help="of faults in each history")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first history; the next ones count up")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--tally", type=pathlib.Path, help="append one line of JSON for each history")
    parser.add_argument("--keep", action="store_true", help="keep what was recorded")
    parser.add_argument("--wrong", action="store_true", help="read without a barrier, and expect the checker to object")
    options = parser.parse_args()
    checker = build_checker()
    print(f"seeds {options.seed} to {options.seed + options.histories - 1}", flush=True)
    with concurrent.futures.ThreadPoolExecutor(options.parallel) as pool:
        results = list(pool.map(lambda i: one(checker, options.seed + i, options), range(options.histories)))
    expected = "not linearizable, as they should be" if options.wrong else "linearizable"
    print(f"{sum(results)} of {len(results)} histories {expected}")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
