"""The energy pipeline on a cluster of three control nodes and four workers, through the death of the leader.

quickstart.sh installs and builds, then runs this. Every question to the cluster goes through poctl, as an operator's would.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

from local_cluster import Cluster, PoctlError, wait_until

HERE = pathlib.Path(__file__).resolve().parent
NODES = {"cp-aws-1": "aws", "cp-gcp-1": "gcp", "cp-azure-1": "azure"}
WORKERS = {  # name: (zone, capabilities); each capability is offered twice
    "worker-aws-1": ("aws", "workers-data.json"),
    "worker-aws-2": ("aws", "workers-data.json"),
    "worker-gcp-1": ("gcp", "workers-compute.json"),
    "worker-azure-1": ("azure", "workers-compute.json"),
}
KILL_DURING = "trend"  # the longest step: a second of work
FAILOVER_LIMIT_S = 20
RUN_LIMIT_S = 60


def say(topic, text):
    print(f"{topic:10}{text}", flush=True)


def start(cluster):
    """Everything up; returns the leader's name."""
    began = time.monotonic()
    cluster.start()
    leader = wait_until(lambda: cluster.leader(), what="a leader")
    places = ", ".join(f"{node} ({zone})" for node, zone in NODES.items())
    say("cluster", f"{places}: one control plane after {time.monotonic() - began:.1f} s, led by {leader}")
    for name, (zone, capabilities) in WORKERS.items():
        cluster.worker(name, zone, HERE / capabilities)
    wait_until(lambda: cluster.poctl("status")["workers_online"] == len(WORKERS), what="all workers online")
    say("workers", ", ".join(WORKERS) + ": online")
    return leader


def start_run(cluster, electricity):
    params = {"electricity": str(electricity), "weather": str(HERE / "data" / "seattle-weather-hourly-normals.csv")}
    cluster.poctl("pipeline", "define", str(HERE / "pipeline.json"))
    run = cluster.poctl("pipeline", "run", "energy", "--params", json.dumps(params))["id"]
    say("run", f"{run} of pipeline energy, on {electricity.name}")
    return run


def step_of(run, name):
    return next(step for step in run["steps"] if step["name"] == name)


def kill_leader(cluster, run_id, leader):
    """SIGKILL for the leader while a step runs. Returns (second leader, failover_ms, when in Unix ms), or None if the run was
    over before that step began."""
    def reached():
        run = cluster.poctl("pipeline", "show", str(run_id))
        return run if run["state"] != "running" or step_of(run, KILL_DURING)["state"] == "running" else None

    run = wait_until(reached, RUN_LIMIT_S, f"step {KILL_DURING}")
    if run["state"] != "running":
        return None
    killed_ms, began = time.time() * 1000, time.monotonic()
    cluster.nodes[leader].kill()
    worker = step_of(run, KILL_DURING)["worker_id"]
    say("kill", f"{leader}, the leader, with SIGKILL, while {worker} executes step {KILL_DURING}")
    rest = cluster.controllers(*(node for node in NODES if node != leader))
    second = wait_until(lambda: cluster.poctl("status", controllers=rest, timeout_s=FAILOVER_LIMIT_S)["leader"],
                        FAILOVER_LIMIT_S, "another leader")
    failover_ms = round((time.monotonic() - began) * 1000)
    say("failover", f"{second} leads and answers {failover_ms} ms after the kill")
    return second, failover_ms, killed_ms


def finish(cluster, run_id):
    """The finished run, whatever became of it."""
    def over():
        run = cluster.poctl("pipeline", "show", str(run_id))
        return run if run["state"] != "running" else None

    return wait_until(over, RUN_LIMIT_S, f"the end of run {run_id}")


def figures(report):
    """The report's figures, without what explains them (ranges, missing hours, checksums of the inputs)."""
    found = {name: value for name, value in report.items() if name.startswith(("renewables_share_", "forecast_"))
             and not name.endswith("_range")}
    heating = report["heating_degree_days"]
    return {**found, "heating_degree_days": {"total": heating["total"], "by_month": heating["by_month"]}}


def outcome(run, first, killed):
    """What --json writes."""
    steps = [{"step": step["name"], "worker": step["worker_id"], "zone": step["zone"], "attempts": step["attempts"],
              "ms": step["finished_ms"] - step["started_ms"]}
             for step in run["steps"] if step["started_ms"] and step["finished_ms"]]
    second, failover_ms, _ = killed or (None, None, None)
    found = {"run_state": run["state"], "first_leader": first, "second_leader": second, "failover_ms": failover_ms,
             "steps": steps, "report": figures(run["result"]) if run["result"] else None}
    if run["error"]:
        found["error"] = run["error"]
    return found


def unexpected(cluster, run, first, killed):
    """What did not go as it should, one sentence each."""
    found = []
    if run["state"] != "succeeded":
        found.append(f"run {run['id']} ended as {run['state']}")
        return found
    if killed is None:
        found.append(f"step {KILL_DURING} was over before the leader could be killed")
        return found
    second, _, killed_ms = killed
    if second == first:
        found.append(f"{first} leads although it was killed")
    if step_of(run, KILL_DURING)["finished_ms"] < killed_ms:
        found.append(f"step {KILL_DURING} was finished before the leader died")
    tasks = [task for task in cluster.poctl("task", "list")["tasks"] if task["run_id"] == run["id"]]
    if [task["state"] for task in tasks] != ["succeeded"] * len(run["steps"]):
        found.append(f"the run has {len(tasks)} tasks, of which not each one succeeded once: "
                     f"{', '.join(task['state'] for task in tasks)}")
    return found


def print_steps(found):
    print(f"\n{'step':10}{'worker':16}{'zone':8}{'attempts':>8}{'ms':>8}")
    for step in found["steps"]:
        print(f"{step['step']:10}{step['worker']:16}{step['zone']:8}{step['attempts']:>8}{step['ms']:>8}")


def print_report(report):
    print("\nreport")
    for name, value in report.items():
        if name.startswith("renewables_share_"):
            print(f"  renewables' share of {name.rsplit('_', 1)[1]}: {value}")
    for name, sources in report.items():
        if name.startswith("forecast_") and not name.endswith("_range"):
            print(f"  forecast for {name.rsplit('_', 1)[1]}, thousand MWh (90 % range):")
            for source, value in sources.items():
                low, high = report[f"{name}_range"][source]
                print(f"    {source:16}{value:>12.3f}  ({low:.0f} to {high:.0f})")
    heating = report["heating_degree_days"]
    print(f"  heating degree days to base {heating['base_celsius']} °C: {heating['total']:.3f}")
    for month, value in heating["by_month"].items():
        print(f"    {month}{value:>9.3f}  {'█' * round(value / 10)}")


def play(cluster, electricity, json_file):
    """The whole story; returns the exit code."""
    first = start(cluster)
    run_id = start_run(cluster, electricity)
    killed = kill_leader(cluster, run_id, first)
    run = finish(cluster, run_id)
    took_ms = run["finished_ms"] - run["started_ms"]
    say("run", f"{run_id} {run['state']} after {took_ms} ms")
    found = outcome(run, first, killed)
    if json_file:
        json_file.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    print_steps(found)
    if run["state"] == "succeeded":
        print_report(run["result"])
    else:
        print(f"\n$ poctl pipeline show {run_id}")
        print(cluster.poctl_text("pipeline", "show", str(run_id)), end="")
    problems = unexpected(cluster, run, first, killed)
    for problem in problems:
        print(f"\nquickstart: {problem}", file=sys.stderr)
    return 1 if problems else 0


def keep(cluster):
    print(f"\nStill running (--keep). Data and logs: {cluster.folder}\n"
          f"  ask:   {cluster.program('poctl')} --controllers {cluster.controllers()} status\n"
          f"  stop:  kill {' '.join(str(d.process.pid) for d in cluster.daemons() if d.running())}")


def arguments():
    parser = argparse.ArgumentParser(prog="quickstart.sh", allow_abbrev=False)
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--input", type=pathlib.Path, default=HERE / "data" / "iowa-electricity.csv")
    return parser.parse_args()


def on_stop_signals(action):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, action)


def interrupted(number, _frame):
    on_stop_signals(signal.SIG_IGN)  # a second one must not stop what tidies up
    raise KeyboardInterrupt(signal.Signals(number).name)


def main():
    args = arguments()
    on_stop_signals(interrupted)
    folder = tempfile.mkdtemp(prefix="pipeorch-quickstart-")
    cluster = Cluster(args.build, folder, NODES)
    kept = False
    try:
        code = play(cluster, args.input.resolve(), args.json)
        kept = args.keep
        if kept:
            keep(cluster)
        return code
    except (PoctlError, TimeoutError) as error:
        print(f"quickstart: {error}; the last lines of the logs:", file=sys.stderr)
        for daemon in cluster.daemons():
            for line in daemon.log_text().splitlines()[-5:]:
                print(f"  {daemon.name}: {line}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read the story has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as error:
        print(f"quickstart: stopped by {error}", file=sys.stderr)
        return 130
    finally:
        on_stop_signals(signal.SIG_IGN)
        if not kept:
            cluster.stop()
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
