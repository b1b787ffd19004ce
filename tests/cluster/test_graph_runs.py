"""Graph pipelines on real clusters: fan-out and join, conditions, failures and how runs go on, caching, pipelines in
pipelines, cancelling, a leader that dies in the middle."""

import json
import subprocess
import sys
import unittest

import harness
from harness import BUILD, ECHO, PoctlError, ROOT, wait_until

FAIL_UNTIL = ["sh", "-c", "cat; [ -e \"$GATE\" ] || { echo no gate yet >&2; exit 65; }"]
COUNTED = ["sh", "-c", "cat; echo run >> \"$COUNT\""]


class Graph(harness.ClusterCase):
    def define(self, name, steps, **more):
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps({"name": name, "steps": steps, **more}))
        self.cluster.poctl("pipeline", "define", str(path))

    def start(self, name, params=None, *options):
        given = ("--params", json.dumps(params)) if params is not None else ()
        return self.cluster.poctl("pipeline", "run", name, *given, *options)["id"]

    def show(self, run_id):
        return self.cluster.poctl("pipeline", "show", str(run_id))

    def ended(self, run_id):
        def over():
            run = self.show(run_id)
            return run if run["state"] != "running" else None

        return wait_until(over, timeout_s=60, what=f"the end of run {run_id}")

    def states(self, run):
        return {step["name"]: step["state"] for step in run["steps"]}

    def step(self, run, name):
        return next(step for step in run["steps"] if step["name"] == name)

    def small(self, commands):
        """One node, one worker with these commands."""
        self.start_cluster({"cp1": "lab"})
        self.start_worker("w1", commands)

    def test_fan_out_join_and_output(self):
        self.start_cluster()
        self.start_worker("w1", {"echo:json": {"command": ECHO, "max_concurrency": 4}})
        self.start_worker("w2", {"echo:json": {"command": ECHO, "max_concurrency": 4}}, zone="gcp")
        self.define("fan", [
            {"name": "list", "capability": "echo:json", "input": {"files": ["a", "b"], "more": "${params.more}"}},
            {"name": "each", "capability": "echo:json", "depends_on": ["list"], "map": "${params.numbers}",
             "input": {"n": "${item}", "at": "${index}", "of": "${steps.list.output.files[1]}"}},
            {"name": "beside", "capability": "echo:json", "depends_on": ["list"], "input": "${steps.list.output.more}!"},
            {"name": "all", "capability": "echo:json", "depends_on": ["each", "beside"],
             "input": ["${steps.each.output}", "${steps.beside.output}"]},
        ], params={"numbers": {"type": "array", "required": True}, "more": {"type": "string", "default": "yes"}},
            output={"all": "${steps.all.output}", "run": "${run.id}"})
        run_id = self.start("fan", {"numbers": list(range(30))})
        run = self.ended(run_id)
        self.assertEqual((run["state"], run["error"]), ("succeeded", None))
        each = [{"n": n, "at": n, "of": "b"} for n in range(30)]
        self.assertEqual(run["result"], {"all": [each, "yes!"], "run": run_id})
        self.assertEqual(self.step(run, "each")["items"], {"total": 30, "succeeded": 30, "failed": 0, "running": 0})
        self.assertEqual(run["params"], {"numbers": list(range(30)), "more": "yes"})
        self.assertIn("30/30", self.cluster.poctl_text("pipeline", "show", str(run_id)))

    def test_params_are_checked_when_a_run_starts(self):
        self.small({"echo:json": ECHO})
        self.define("typed", [{"name": "a", "capability": "echo:json", "input": "${params.n}"}],
                    params={"n": {"type": "integer", "required": True}})
        for params, expected in (({}, "\"n\" is required"), ({"n": "x"}, "is a string, expected integer"),
                                 ({"n": 1, "m": 2}, "is not declared")):
            with self.subTest(params), self.assertRaises(PoctlError) as refused:
                self.start("typed", params)
            self.assertIn(expected, refused.exception.stderr)
        self.assertEqual(self.ended(self.start("typed", {"n": 7}))["result"], 7)

    def test_condition_skips_and_joins_decide(self):
        self.small({"echo:json": ECHO})
        self.define("choose", [
            {"name": "check", "capability": "echo:json", "input": {"score": "${params.score}"}},
            {"name": "good", "capability": "echo:json", "depends_on": ["check"], "when": "steps.check.output.score >= 10"},
            {"name": "bad", "capability": "echo:json", "depends_on": ["check"], "when": "steps.check.output.score < 10"},
            {"name": "either", "capability": "echo:json", "depends_on": ["good", "bad"], "join": "any_succeeded",
             "input": "${steps.good.state}/${steps.bad.state}"},
            {"name": "both", "capability": "echo:json", "depends_on": ["good", "bad"]},
            {"name": "always", "capability": "echo:json", "depends_on": ["both"], "join": "all_done", "input": 1},
        ], params={"score": {"type": "number"}}, output="${steps.either.output}")
        for score, good, bad in ((12.5, "succeeded", "skipped"), (3, "skipped", "succeeded")):
            with self.subTest(score):
                run = self.ended(self.start("choose", {"score": score}))
                self.assertEqual(self.states(run), {"check": "succeeded", "good": good, "bad": bad, "either": "succeeded",
                                                    "both": "skipped", "always": "succeeded"})
                self.assertEqual((run["state"], run["result"]), ("succeeded", f"{good}/{bad}"))

    def failing(self, gate, count, **more):
        """a, then b, which fails until the gate is there; c after a, d after both."""
        self.small({"echo:json": ECHO, "count:it": {"command": COUNTED, "env": {"COUNT": str(count)}},
                    "fail:until": {"command": FAIL_UNTIL, "env": {"GATE": str(gate)}}})
        self.define("frail", [
            {"name": "a", "capability": "count:it", "input": "from a"},
            {"name": "b", "capability": "fail:until", "depends_on": ["a"], "input": "${steps.a.output}", **more},
            {"name": "c", "capability": "count:it", "depends_on": ["a"], "input": "from c"},
            {"name": "d", "capability": "echo:json", "depends_on": ["b", "c"], "input": ["${steps.b.output}", "${steps.c.output}"]},
        ])

    def test_a_failed_run_goes_on_from_the_failed_step(self):
        gate, count = self.folder / "gate", self.folder / "count"
        self.failing(gate, count)
        run_id = self.start("frail")
        run = self.ended(run_id)
        self.assertEqual(run["state"], "failed")
        self.assertIn("no gate yet", run["error"])
        states = self.states(run)
        self.assertEqual((states["a"], states["b"]), ("succeeded", "failed"))
        self.assertIn('error of step "b": ', self.cluster.poctl_text("pipeline", "show", str(run_id)))
        gate.touch()
        again = self.ended(self.cluster.poctl("pipeline", "resume", str(run_id))["id"])
        self.assertEqual((again["state"], again["resumed_from"]), ("succeeded", run_id))
        self.assertTrue(self.step(again, "a")["reused"])
        self.assertFalse(self.step(again, "b")["reused"])
        self.assertEqual(again["result"], ["from a", "from c"])
        self.assertEqual(self.show(run_id)["state"], "failed")  # stays as it was
        self.assertIn("succeeded, reused", self.cluster.poctl_text("pipeline", "show", str(again["id"])))

    def test_a_run_is_run_again_from_any_step(self):
        gate, count = self.folder / "gate", self.folder / "count"
        gate.touch()
        self.failing(gate, count)
        run_id = self.start("frail")
        self.assertEqual(self.ended(run_id)["state"], "succeeded")
        self.assertEqual(count.read_text(), "run\n" * 2)
        with self.assertRaises(PoctlError):
            self.cluster.poctl("pipeline", "resume", str(run_id))  # nothing is left to do
        again = self.ended(self.cluster.poctl("pipeline", "resume", str(run_id), "--from-step", "c")["id"])
        self.assertEqual(again["state"], "succeeded")
        self.assertEqual({step["name"]: step["reused"] for step in again["steps"]}, {"a": True, "b": True, "c": False, "d": False})
        self.assertEqual(count.read_text(), "run\n" * 3)
        with self.assertRaises(PoctlError) as refused:
            self.cluster.poctl("pipeline", "resume", str(run_id), "--from-step", "nowhere")
        self.assertIn("nowhere", refused.exception.stderr)

    def test_a_failure_may_leave_the_run_going(self):
        self.failing(self.folder / "gate", self.folder / "count", on_failure="continue")
        run = self.ended(self.start("frail"))
        self.assertEqual(self.states(run), {"a": "succeeded", "b": "failed", "c": "succeeded", "d": "skipped"})

    def test_cached_results_are_taken_and_expire_with_the_input(self):
        count = self.folder / "count"
        self.small({"count:it": {"command": COUNTED, "env": {"COUNT": str(count)}}})
        self.define("cached", [{"name": "a", "capability": "count:it", "cache": True, "input": {"x": "${params.x}"}}],
                    params={"x": {}})
        for x, runs, cached in ((1, 1, False), (1, 1, True), (2, 2, False), (2, 2, True)):
            with self.subTest(x=x, runs=runs):
                run = self.ended(self.start("cached", {"x": x}))
                self.assertEqual((run["state"], run["result"], self.step(run, "a")["cached"]), ("succeeded", {"x": x}, cached))
                self.assertEqual(count.read_text(), "run\n" * runs)
        self.assertIn("succeeded, cached", self.cluster.poctl_text("pipeline", "show", str(run["id"])))

    def test_pipelines_run_as_steps(self):
        self.small({"echo:json": {"command": ECHO, "max_concurrency": 4}})
        self.define("inner", [{"name": "double", "capability": "echo:json", "input": ["${params.n}", "${params.n}"]}],
                    params={"n": {"required": True}})
        self.define("outer", [
            {"name": "sub", "pipeline": "inner", "map": [1, 2], "input": {"n": "${item}"}},
            {"name": "after", "capability": "echo:json", "depends_on": ["sub"], "input": "${steps.sub.output}"},
        ])
        run_id = self.start("outer")
        run = self.ended(run_id)
        self.assertEqual((run["state"], run["result"]), ("succeeded", [[1, 1], [2, 2]]))
        children = self.cluster.poctl("pipeline", "runs", "inner")["runs"]
        self.assertEqual([(child["parent_run_id"], child["state"]) for child in children], [(run_id, "succeeded")] * 2)
        self.define("missing", [{"name": "sub", "pipeline": "nowhere"}])
        run = self.ended(self.start("missing"))
        self.assertEqual(run["state"], "failed")
        self.assertIn("nowhere", run["error"])

    def test_cancel_ends_all_of_a_run(self):
        gate = self.folder / "gate"
        self.small({"wait:gate": self.gated(gate, concurrency=4), "echo:json": ECHO})
        self.define("inner", [{"name": "wait", "capability": "wait:gate"}])
        self.define("slow", [
            {"name": "many", "capability": "wait:gate", "map": [1, 2, 3]},
            {"name": "sub", "pipeline": "inner"},
            {"name": "end", "capability": "echo:json", "depends_on": ["many", "sub"], "join": "all_done"},
        ])
        run_id = self.start("slow")
        wait_until(lambda: len(self.cluster.poctl("task", "list", "--state", "running")["tasks"]) == 4, what="four running tasks")
        self.cluster.poctl("pipeline", "cancel", str(run_id))
        run = self.show(run_id)
        self.assertEqual((run["state"], set(self.states(run).values())), ("cancelled", {"cancelled"}))
        child = self.step(run, "sub")["child_run_id"]
        self.assertEqual(self.show(child)["state"], "cancelled")
        tasks = self.cluster.poctl("task", "list")["tasks"]
        self.assertEqual([task["state"] for task in tasks], ["cancelled"] * 4)
        listed = self.cluster.poctl("pipeline", "runs", "slow", "--state", "cancelled")["runs"]
        self.assertEqual([run["id"] for run in listed], [run_id])
        self.assertEqual(self.cluster.poctl("pipeline", "runs", "--state", "failed")["runs"], [])

    def test_a_map_survives_the_death_of_the_leader(self):
        cluster = self.start_cluster()
        for name in ("w1", "w2"):
            self.start_worker(name, {"echo:json": {"command": ECHO, "max_concurrency": 2}})
        self.define("wide", [
            {"name": "each", "capability": "echo:json", "map": "${params.list}", "map_parallel": 16, "input": {"n": "${item}"}},
            {"name": "all", "capability": "echo:json", "depends_on": ["each"], "input": "${steps.each.output}"},
        ], params={"list": {"type": "array"}})
        run_id = self.start("wide", {"list": list(range(120))})
        wait_until(lambda: self.step(self.show(run_id), "each")["items"]["succeeded"] > 20, what="a part of the map")
        cluster.nodes[self.leader()].kill()
        run = self.ended(run_id)
        self.assertEqual((run["state"], run["result"]), ("succeeded", [{"n": n} for n in range(120)]))

    def test_a_definition_is_exported_and_shown(self):
        self.small({"echo:json": ECHO})
        steps = [{"name": "a", "capability": "echo:json@^1.0", "map": "${params.list}", "input": {"x": "${item}"}, "priority": 3,
                  "placement": {"labels": {"disk": "ssd"}, "prefer": "spread"}, "retry": {"delay_ms": 5}},
                 {"name": "b", "capability": "echo:json", "depends_on": ["a"], "when": "len(steps.a.output) > 0"}]
        document = {"name": "p", "version": "3", "params": {"list": {"type": "array", "default": [1]}}, "steps": steps}
        self.define(document["name"], steps, version="3", params=document["params"])
        exported = self.cluster.poctl("pipeline", "export", "p")
        self.assertEqual(exported, document)
        shown = self.cluster.poctl_text("pipeline", "show", "p")
        for text in ("version 3", "len(steps.a.output) > 0", "array", "${params.list}"):
            self.assertIn(text, shown)
        self.assertEqual(self.cluster.poctl("pipeline", "list")["pipelines"][0]["label"], "3")
        self.cluster.poctl("pipeline", "run", "p")  # waits for ever: nobody has an ssd
        self.define(document["name"], steps, version="4", params=document["params"])
        self.assertEqual(self.cluster.poctl("pipeline", "show", "1")["label"], "3")
        heads, run = self.cluster.poctl_text("pipeline", "runs").splitlines()
        self.assertEqual(heads.split(), ["RUN", "PIPELINE", "VERSION", "STATE", "STARTED", "MS", "PREFERRED", "ZONE"])
        self.assertRegex(run, r"^1 +p +3 +running +\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ +- +-$")


class Example(harness.ClusterCase):
    def run_example(self, *arguments):
        return subprocess.run([sys.executable, str(ROOT / "examples" / "fanout" / "run.py"), "--build", str(BUILD), *arguments],
                              capture_output=True, text=True, timeout=120, env=harness.environment({"TMPDIR": str(self.folder)}))

    def test_fanout(self):
        ran = self.run_example()
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        for text in ("3/3", '"Fossil Fuels": 33381.471', '"Nuclear Energy": 5084.404', '"Renewables": 22669.213'):
            self.assertIn(text, ran.stdout)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_fanout_cleans_up_after_a_failure(self):
        spoilt = self.folder / "spoilt.csv"
        spoilt.write_text("year,source,net_generation\n2001-01-01,Wind,1\n2002-01-01,Wind,2\n2001-01-01,Sun,none\n2002-01-01,Sun,3\n")
        ran = self.run_example(str(spoilt))
        self.assertEqual(ran.returncode, 1, ran.stdout + ran.stderr)
        self.assertIn("1/2, 1 failed", ran.stdout)
        self.assertRegex(ran.stdout, r"cleanup +remove:folder +succeeded")
        self.assertRegex(ran.stdout, r"compare +compare:trends +skipped")
        self.assertIn("could not convert string to float: 'none'", ran.stdout)


class Simulated(unittest.TestCase):
    def test_the_example_is_simulated(self):
        ran = subprocess.run([BUILD / "daemons" / "poctl", "sim", "--pipeline", ROOT / "examples" / "fanout" / "pipeline.json",
                              "--params", '{"electricity": "x.csv", "folder": "/x"}', "--seed", "7", "--faults", "three-clouds",
                              "-o", "json"], capture_output=True, text=True, timeout=120, env=harness.environment())
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        run = json.loads(ran.stdout)["runs"][0]
        self.assertEqual([step["state"] for step in run["steps"]], ["succeeded"] * 5)


if __name__ == "__main__":
    harness.main()
