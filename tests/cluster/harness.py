"""Whole clusters of real processes under a test's hands: start, kill, freeze, restart, ask.

A test case gets its own folder, ports and processes; whatever it leaves running is ended, and the folder (data and logs) is
kept only if the test failed. Nothing sleeps: tests wait for conditions with wait_until.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD_ROOT", ROOT / "build"))
ENERGY = ROOT / "examples" / "energy"
sys.path.insert(0, str(ENERGY))

from local_cluster import Cluster, Daemon, PoctlError, Port, environment, wait_until  # noqa: E402,F401

NAMES = {"cp1": "aws", "cp2": "gcp", "cp3": "azure"}
# Short, so that the tests are fast; long enough for a loaded machine and for sanitizers.
NODE_OPTIONS = ("--election-ms", "300", "--heartbeat-ms", "30")
WORKER_OPTIONS = ("--heartbeat-ms", "200", "--drain-ms", "500")

# What a sanitizer or a failed invariant leaves in a log.
CRASH = re.compile(r"(WARNING|ERROR): \w+Sanitizer|runtime error: |invariant ", re.IGNORECASE)
CRASH_SIGNALS = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL, -signal.SIGTRAP}

# Commands of test workers. They read the task's input from stdin and print its result.
ECHO = ["cat"]
# Waits for the file named by the variable GATE, then tells who ran it.
GATED = ["sh", "-c", "cat >/dev/null; until [ -e \"$GATE\" ]; do sleep 0.02; done; "
                     "printf '{\"worker\":\"%s\",\"attempt\":%s,\"token\":%s}' $PO_WORKER_ID $PO_ATTEMPT $PO_FENCING_TOKEN"]


def crashes_in(folder):
    """What sanitizers and failed invariants left in the logs of a folder, each with the name of its process."""
    found = []
    for log in sorted(folder.glob("*.log")):
        with open(log, errors="replace") as lines:
            found += [f"{log.stem}: {line.strip()[:300]}" for line in lines if CRASH.search(line)]
    return found


class ClusterCase(unittest.TestCase):
    """A test with a cluster. Nothing runs before start_cluster()."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{self._testMethodName[:40]}-"))
        self.cluster = None
        self.others = []  # further daemons to end
        self.when_ended = []  # to be called once no process runs
        self.addCleanup(self._tidy)

    def _tidy(self):
        for daemon in self.others:
            if daemon.running():
                daemon.signal(signal.SIGCONT)
            daemon.kill()
        if self.cluster:
            for daemon in self.cluster.daemons():
                if daemon.running():
                    daemon.signal(signal.SIGCONT)
                daemon.kill()
            self.cluster.release()
        for call in self.when_ended:
            call()
        crashes = self._crashes()
        outcome = self._outcome.result
        if crashes or any(getattr(case, "test_case", case) is self for case, _ in outcome.failures + outcome.errors):
            self._show_logs()
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.assertFalse(crashes, "\n" + "\n".join(crashes))

    def _crashes(self):
        """Processes that ended as none may, whether or not the cluster survived it."""
        daemons = [*self.others, *(self.cluster.daemons() if self.cluster else [])]
        found = [f"{d.name}: ended by signal {-d.process.returncode}" for d in daemons
                 if d.process and d.process.returncode in CRASH_SIGNALS]
        return found + crashes_in(self.folder)

    def _show_logs(self):
        print(f"\n{self.id()}: data and logs are kept in {self.folder}", file=sys.stderr)
        for log in sorted(self.folder.glob("*.log")):
            for line in log.read_text(errors="replace").splitlines()[-8:]:
                print(f"  {log.stem}: {line[:400]}", file=sys.stderr)

    # ---- clusters ----

    def make_cluster(self, nodes=NAMES, options=(), name="pipeorch"):
        self.cluster = Cluster(BUILD, self.folder, nodes, name=name, node_options=(*NODE_OPTIONS, *options))
        return self.cluster

    def start_cluster(self, nodes=NAMES, options=()):
        """A cluster that has a leader."""
        cluster = self.make_cluster(nodes, options)
        cluster.start()
        self.leader()
        return cluster

    def leader(self, *among, but=None):
        """Wait until some node leads (not `but`), asking the nodes `among`; its name."""
        controllers = self.cluster.controllers(*among)

        def found():
            name = self.cluster.poctl("status", controllers=controllers, timeout_s=5)["leader"]
            return name if name != but else None

        return wait_until(found, what="a leader")

    def followers(self, leader):
        return [node for node in self.cluster.nodes if node != leader]

    def status_of(self, member):
        """What the status says of one member."""
        return next(m for m in self.cluster.poctl("status")["members"] if m["name"] == member)

    # ---- workers ----

    def capabilities(self, commands, **more):
        """A capabilities file for {name: command or whole description}; returns its path."""
        listed = []
        for name, command in commands.items():
            entry = {"command": command} if isinstance(command, list) else dict(command)
            listed.append({"name": name, **entry})
        path = self.folder / f"capabilities-{len(list(self.folder.glob('capabilities-*')))}.json"
        path.write_text(json.dumps({"capabilities": listed, **more}))
        return path

    def gated(self, gate, concurrency=1):
        """The description of a command that waits for the file `gate`."""
        return {"command": GATED, "env": {"GATE": str(gate)}, "max_concurrency": concurrency}

    def start_worker(self, name, commands, zone="aws", options=(), controllers=None):
        """A worker that is online."""
        daemon = self.cluster.worker(name, zone, self.capabilities(commands), (*WORKER_OPTIONS, *options), controllers)
        self.wait_worker(name, "online")
        return daemon

    def worker_row(self, name):
        return next((w for w in self.cluster.poctl("workers")["workers"] if w["id"] == name), None)

    def wait_worker(self, name, status):
        wait_until(lambda: (self.worker_row(name) or {}).get("status") == status, what=f"{name} {status}")

    # ---- tasks ----

    def submit(self, capability, data=None, *options):
        return self.cluster.poctl("task", "submit", capability, "--input", json.dumps(data), *options)["id"]

    def task(self, task_id):
        return self.cluster.poctl("task", "show", str(task_id))

    def wait_task(self, task_id, *states):
        def reached():
            task = self.task(task_id)
            return task if task["state"] in states else None

        return wait_until(reached, what=f"task {task_id} {' or '.join(states)}")

    def run_task(self, capability, data=None, *options):
        """Submit, wait for success, return the result."""
        task = self.wait_task(self.submit(capability, data, *options), "succeeded", "failed", "cancelled")
        self.assertEqual(task["state"], "succeeded", task)
        return task["result"]

    # ---- processes that must not start ----

    def refused_start(self, command, *expected, env=None, code=2, timeout_s=20):
        """The command ends by itself with this code, and its output says all of `expected`."""
        ran = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment(env))
        output = ran.stderr + ran.stdout
        self.assertEqual(ran.returncode, code, output)
        for text in expected:
            self.assertIn(text, output)
        return output


def main():
    """Run the file's tests. Exit code 77, which meson shows as SKIP, if not one could run here."""
    result = unittest.main(verbosity=2, exit=False).result
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if result.testsRun == len(result.skipped) else 0)
