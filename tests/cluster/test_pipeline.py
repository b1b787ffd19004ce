"""Pipelines through the whole system: the energy example, its failure, and documents that are refused."""

import json

import harness
from harness import ECHO, ENERGY, PoctlError

DATA = ENERGY / "data"


class Energy(harness.ClusterCase):
    def run_energy(self, electricity):
        cluster = self.start_cluster()
        for name, capabilities in (("w1", "workers-data.json"), ("w2", "workers-compute.json")):
            cluster.worker(name, "aws", ENERGY / capabilities, harness.WORKER_OPTIONS)
        params = {"electricity": str(electricity), "weather": str(DATA / "seattle-weather-hourly-normals.csv")}
        cluster.poctl("pipeline", "define", str(ENERGY / "pipeline.json"))
        run = cluster.poctl("pipeline", "run", "energy", "--params", json.dumps(params))["id"]
        return harness.wait_until(lambda: self.finished(run), timeout_s=60, what="the end of the run")

    def finished(self, run_id):
        run = self.cluster.poctl("pipeline", "show", str(run_id))
        return run if run["state"] != "running" else None

    def test_report(self):
        run = self.run_energy(DATA / "iowa-electricity.csv")
        self.assertEqual((run["state"], run["error"]), ("succeeded", None))
        self.assertEqual([(step["name"], step["state"], step["attempts"]) for step in run["steps"]],
                         [(name, "succeeded", 1) for name in ("ingest", "clean", "trend", "heating", "report")])
        report = run["result"]
        self.assertEqual(report["renewables_share_2017"], 0.3884)
        self.assertEqual(report["forecast_2018"],
                         {"Fossil Fuels": 33381.471, "Nuclear Energy": 5084.404, "Renewables": 22669.213})
        self.assertEqual(report["heating_degree_days"]["total"], 2632.671)
        self.assertEqual(report["heating_degree_days"]["by_month"]["2010-12"], 411.05)

    def test_spoilt_row_fails_the_run_at_once_with_its_place(self):
        lines = (DATA / "iowa-electricity.csv").read_text().splitlines()
        lines[9] = "2009-01-01,Fossil Fuels,n/a"
        spoilt = self.folder / "spoilt.csv"
        spoilt.write_text("\n".join(lines) + "\n")
        run = self.run_energy(spoilt)
        self.assertEqual(run["state"], "failed")
        clean = run["steps"][1]
        self.assertEqual((clean["name"], clean["state"], clean["attempts"]), ("clean", "failed", 1))
        self.assertIn("spoilt.csv: row 10, column 3 (net_generation): 'n/a'", clean["error"])
        self.assertIn("row 10, column 3", run["error"])
        self.assertEqual([step["state"] for step in run["steps"][2:]], [None] * 3)
        self.assertIn("row 10, column 3", self.cluster.poctl_text("pipeline", "show", str(run["id"])))


class Chains(harness.ClusterCase):
    def define(self, *names, **more):
        """A chain of echo steps with these names."""
        steps = [{"name": name, "capability": "echo:json", "config": {"step": name}} for name in names]
        for step, following in zip(steps, names[1:]):
            step["next_node"] = following
        path = self.folder / "pipeline.json"
        path.write_text(json.dumps({"name": "chain", "start_node": names[0], "steps": steps, **more}))
        self.cluster.poctl("pipeline", "define", str(path))

    def test_each_step_gets_params_config_and_the_result_before(self):
        self.start_cluster({"cp1": "lab"})
        self.start_worker("w1", {"echo:json": ECHO})
        self.define("a", "b")
        run_id = self.cluster.poctl("pipeline", "run", "chain", "--params", '{"p": 1}', "--wait")["id"]
        result = self.cluster.poctl("pipeline", "show", str(run_id))["result"]
        first = {"pipeline": "chain", "run_id": run_id, "step": "a", "params": {"p": 1}, "config": {"step": "a"}, "input": None}
        self.assertEqual(result, {**first, "step": "b", "config": {"step": "b"}, "input": first})

    def test_a_run_survives_the_restart_of_all_nodes(self):
        cluster = self.start_cluster()
        gate = self.folder / "gate"
        self.start_worker("w1", {"echo:json": self.gated(gate)})
        self.define("a", "b", "c")
        run = cluster.poctl("pipeline", "run", "chain")["id"]
        for node in cluster.nodes.values():
            node.kill()
        gate.touch()
        for node in cluster.nodes.values():
            node.start()
        done = cluster.poctl("pipeline", "wait", str(run), timeout_s=60)
        self.assertEqual((done["state"], done["result"]["worker"]), ("succeeded", "w1"))

    def test_cancelled_run_starts_no_further_step(self):
        cluster = self.start_cluster({"cp1": "lab"})
        self.define("a", "b")  # no worker: step a waits
        run = cluster.poctl("pipeline", "run", "chain")["id"]
        cluster.poctl("pipeline", "cancel", str(run))
        shown = cluster.poctl("pipeline", "show", str(run))
        self.assertEqual((shown["state"], [step["state"] for step in shown["steps"]]), ("cancelled", ["cancelled", None]))
        self.start_worker("w1", {"echo:json": ECHO})
        self.run_task("echo:json")
        self.assertEqual(cluster.poctl("pipeline", "show", str(run))["state"], "cancelled")

    def test_every_problem_of_a_document_is_listed_with_its_place(self):
        self.make_cluster({"cp1": "lab"})  # nothing runs: the document is refused before anyone is asked
        path = self.folder / "wrong.json"
        path.write_text('{\n "name": "wrong",\n "start_node": "a",\n "steps": [\n'
                        '  {"name": "a", "capability": "echo json", "next_node": "nowhere"},\n'
                        '  {"name": "b", "capability": "echo:json", "timeot_ms": 5}\n ]\n}\n')
        for command in ("validate", "define"):
            with self.subTest(command), self.assertRaises(PoctlError) as refused:
                self.cluster.poctl("pipeline", command, str(path))
            problems = refused.exception.stderr
            self.assertEqual(refused.exception.code, 2, problems)
            for text in ("/steps/0/capability", "nowhere", "timeot_ms", "timeout_ms", f"{path}:5:", f"{path}:6:"):
                self.assertIn(text, problems)


if __name__ == "__main__":
    harness.main()
