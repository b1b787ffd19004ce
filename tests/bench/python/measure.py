#!/usr/bin/env python3
"""Measure one system: what its tasks cost with one Python worker process, as one line of JSON.

    measure.py SYSTEM VARIANT TASKS     SYSTEM: a module of this folder, with_SYSTEM.py

The same for every system. One task at a time, from its submission until the client has its result, gives the latencies. Then
TASKS at once give the rate, from the first submission until the client has every result, each of which is compared with what it
has to be; of three times the middle one counts. CPU time is what the kernel counts for the processes, with all their threads and
children.
"""

import contextlib
import importlib
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

RATE_ROUNDS = 3
WARM_ROUNDS = 1000
WARM_SECONDS = 3.0  # at most, for systems that need longer
TASKS_AT_ONCE = 64  # that a worker holds, of those that wait: each system has a setting for it
TICKS = os.sysconf("SC_CLK_TCK")


class System:
    """A task queue with one worker process, whose task returns what it is given.

    A subclass sets the names and starts the processes in start(); `ends` undoes what it did, in reverse order.
    """

    name = ""
    variant = ""
    fsync = ""  # when what is told to be done is on disk

    def __init__(self, variant):
        self.variant = variant
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-python-"))
        self.ends = contextlib.ExitStack()
        self.ends.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.workers = []  # numbers of the processes, whose children count as well
        self.servers = []

    def version(self):
        raise NotImplementedError

    def start(self):
        """Everything runs when it returns, or will soon: the first task waits for it."""
        raise NotImplementedError

    def one(self, value):
        """Submit a task and wait for its result."""
        raise NotImplementedError

    def many(self, values):
        """Submit a task for each value, by the fastest documented way, and wait for all results, in order."""
        raise NotImplementedError

    def more(self):
        """Measures that only this system has."""
        return {}


# ---- processes ----


def stat(pid):
    """Parent, user and system seconds of a process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[1]), int(fields[11]) / TICKS, int(fields[12]) / TICKS


def with_children(pids):
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                parents[int(entry.name)] = stat(entry.name)[0]
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def cpu(pids):
    """User and system seconds of processes that run."""
    used = [stat(pid) for pid in pids]
    return sum(user for _, user, _ in used), sum(system for _, _, system in used)


@contextlib.contextmanager
def logs_told(system):
    """If the measurement fails: the ends of the processes' logs, which are deleted."""
    try:
        yield
    except BaseException:
        for log in sorted(system.folder.glob("*.log")):
            print(f"{log.stem}: {log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
        raise


# ---- measures ----


def latencies(cycle, rounds=WARM_ROUNDS, seconds=WARM_SECONDS):
    """Sorted seconds of calls of cycle(i)."""
    measured = []
    until = time.perf_counter() + seconds
    while len(measured) < rounds and time.perf_counter() < until:
        began = time.perf_counter()
        cycle(len(measured))
        measured.append(time.perf_counter() - began)
    return sorted(measured)


def quantile_us(measured, quantile):
    return round(measured[min(int(quantile * len(measured)), len(measured) - 1)] * 1e6)


def checked(system, value):
    result = system.one(value)
    if result != value:
        raise AssertionError(f"{system.name}: the task of {value} has the result {result!r}")


def rate(system, count):
    workers = with_children(system.workers)
    parts = {"worker": workers, "servers": with_children(system.servers), "client": {os.getpid()} - workers}
    before = {part: cpu(pids) for part, pids in parts.items()}
    began = time.perf_counter()
    results = system.many(range(count))
    seconds = time.perf_counter() - began
    after = {part: cpu(pids) for part, pids in parts.items()}
    wrong = sum(result != value for value, result in enumerate(results)) + abs(count - len(results))
    if wrong:
        raise AssertionError(f"{system.name}: {wrong} of {count} tasks have no result, or a wrong one")
    used = {part: [round((b - a) / count * 1e6, 1) for a, b in zip(before[part], after[part])] for part in parts}
    return {
        "tasks": count,
        "tasks_per_s": round(count / seconds),
        **{f"{part}_{kind}_us": us for part, kinds in used.items() for kind, us in zip(("user", "system"), kinds)},
    }


def measure(system, count):
    with system.ends, logs_told(system):
        system.start()
        checked(system, 0)
        system.many(range(64))  # connections, pools and caches are there
        warm = latencies(lambda i: checked(system, i))
        rates = sorted((rate(system, count) for _ in range(RATE_ROUNDS)), key=lambda measured: measured["tasks_per_s"])
        latency = {"warm_p50_us": quantile_us(warm, 0.5), "warm_p99_us": quantile_us(warm, 0.99)}
        measured = {**latency, **rates[RATE_ROUNDS // 2], **system.more()}
        about = {"system": system.name, "version": system.version(), "variant": system.variant, "fsync": system.fsync}
        return {"bench": "python", **about, **measured}


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before it was over"))
    name, variant, count = sys.argv[1:]
    system = importlib.import_module(f"with_{name}").make(variant)
    print(json.dumps(measure(system, int(count))))


if __name__ == "__main__":
    main()
