#!/usr/bin/env python3
"""What a task costs with a Python worker: pipeorch, and beside it Celery, RQ and Dramatiq on Redis, in one run on this machine.

    bench.py [SYSTEM ...]     all, or some of: pipeorch, celery, rq, dramatiq

After a build; `meson test -C build --benchmark python -v` runs it. Takes about two minutes, and one more when it first makes
build/venv-bench, with the packages of requirements.txt. redis-server is what `tests/install-deps.sh --bench` installs. What is
missing is said, and the rest is measured.

One JSON line for each measure, then a table. measure.py says how each is taken. Exit status: 0 if all that could be measured
was; 1 if a system failed, which its row tells; 2 for wrong usage. No figure makes it fail.
"""

import json
import os
import pathlib
import platform
import subprocess
import sys
from typing import NamedTuple, Sequence

import redis_server

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD_ROOT", TOP / "build"))
MEASURE_SECONDS = 150


class Measured(NamedTuple):
    """A system of the table: with_NAME.py is its module."""

    title: str
    variants: Sequence[str]
    tasks: int  # at once: enough for a second or some


NODES = ["three nodes", "one node", "standalone"]
FSYNC = ["always", "everysec"]
SYSTEMS = {
    "pipeorch": Measured("pipeorch", NODES, 20000),
    "celery": Measured("Celery", FSYNC, 600),
    "rq": Measured("RQ", FSYNC, 250),
    "dramatiq": Measured("Dramatiq", FSYNC, 1500),
}
COLUMNS = "{:<24}{:<29}{:>8}{:>11}{:>11}{:>11}{:>11}{:>9}{:>9}"


def environment():
    library = BUILD / "libpipeorch" / "libpipeorch.so"
    package = TOP / "bindings" / "python"
    return {"PIPEORCH_LIBRARY": str(library), "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1", **os.environ}


def interpreter():
    """That of build/venv-bench, which is made on first use; or this one, and why."""
    venv = BUILD / "venv-bench"
    command = ["bash", TOP / "tests" / "python" / "venv.sh", venv, HERE / "requirements.txt"]
    made = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if made.returncode == 0:
        return venv / "bin" / "python", None
    sys.stderr.write(made.stderr)
    return sys.executable, "its package could not be installed into build/venv-bench; what pip said is above"


def run(python, system, variant, count):
    """What measure.py says, or a text that tells why it does not."""
    command = [python, HERE / "measure.py", system, variant, str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            out, err = process.communicate(timeout=MEASURE_SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()  # it ends what it started
            out, err = process.communicate()
    if process.returncode:
        sys.stderr.write(err)
        return f"failed: {(err.strip() or f'exit status {process.returncode}').splitlines()[-1]}"
    print(out, end="", flush=True)
    return json.loads(out)


def rows_of(system, python, without):
    """Title and figures of each variant, or a text in place of the figures."""
    title, variants, count = SYSTEMS[system]
    if without and system != "pipeorch":
        return [(title, f"not measured: {without}")]
    rows = []
    for variant in variants:
        measured = run(python, system, variant, count)
        version = measured["version"] if isinstance(measured, dict) else ""
        rows.append((f"{title}, {variant}" if system == "pipeorch" else f"{title} {version}".rstrip(), measured))
    return rows


def line(title, measured, first):
    if isinstance(measured, str):
        return f"{title:<24}{measured}"
    rate = measured["tasks_per_s"]
    times = f"1 / {first['tasks_per_s'] / rate:.1f}" if isinstance(first, dict) else "-"
    cpu = [f"{measured[f'{part}_user_us']:,.0f}+{measured[f'{part}_system_us']:,.0f}" for part in ("worker", "client", "servers")]
    warm = f"{measured['warm_p50_us']:,}", f"{measured['warm_p99_us']:,}"
    return COLUMNS.format(title, measured["fsync"], f"{rate:,}", times, *cpu, *warm)


def table(rows):
    redis = redis_server.version()
    print(f"\nOne worker process of {platform.python_implementation()} {platform.python_version()}; {redis}.", end=" ")
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}.")
    print("worker, client, servers: CPU of a task in microseconds, user+system. p50, p99: microseconds of one task at a time,")
    print("until its result is there.\n")
    print(COLUMNS.format("system", "fsync", "tasks/s", "of ours", "worker", "client", "servers", "p50", "p99"))
    first = rows[0][1]
    for title, measured in rows:
        print(line(title, measured, first))
    for title, measured in rows:
        if isinstance(measured, dict) and "warm_per_c" in measured:
            pair = f"{measured['warm_p50_beside_c_us']:,} and {measured['warm_p50_c_us']:,}"
            print(f"\n{title}: p50 {measured['warm_per_c']} x that of a worker in C that serves the same clients in turn: {pair}", end="")
    print()


def main():
    wanted = sys.argv[1:] or list(SYSTEMS)
    unknown = [name for name in wanted if name not in SYSTEMS]
    if unknown:
        print(f"bench.py: unknown system {unknown[0]!r}; expected some of: {', '.join(SYSTEMS)}", file=sys.stderr)
        return 2
    python, without = sys.executable, None
    if not redis_server.program():
        without = "redis-server is not installed; tests/install-deps.sh --bench installs it"
    elif wanted != ["pipeorch"]:
        python, without = interpreter()
    rows = [row for system in wanted for row in rows_of(system, python, without)]
    table(rows)
    return 1 if any(isinstance(measured, str) and measured.startswith("failed") for _, measured in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
