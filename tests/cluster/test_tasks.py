"""Where and when tasks run, with real processes: placement, priorities, times, keys, batches, dead letters, fencing."""

import subprocess
import time

import harness
from harness import ECHO, PoctlError, environment, wait_until

FAILING = ["sh", "-c", "cat >/dev/null; exit 1"]


class Placement(harness.ClusterCase):
    def setUp(self):
        super().setUp()
        self.start_cluster()

    def explain(self, task):
        return self.cluster.poctl("task", "explain", str(task))

    def reasons(self, task):
        return {w["worker_id"]: w["reason"] for w in self.explain(task)["workers"]}

    def worker(self, name, version="1.0.0", gpu=False, **more):
        entry = {"command": ECHO, "version": version, "requires_gpu": gpu}
        path = self.capabilities({"echo:json": entry}, **more)
        self.cluster.worker(name, more.pop("zone", "aws"), path, harness.WORKER_OPTIONS)
        self.wait_worker(name, "online")

    def test_each_demand_turns_down_who_does_not_meet_it(self):
        self.worker("w1", version="1.1.0", labels={"disk": "hdd"})
        demands = {"version": ("echo:json@^1.2",), "label": ("echo:json", "--labels", "disk=ssd"),
                   "zone": ("echo:json", "--require-zone", "gcp"), "gpu": ("echo:json", "--gpu", "required"),
                   "resource": ("echo:json", "--resources", "licences=1")}
        waiting = {}
        for reason, (capability, *options) in demands.items():
            waiting[reason] = self.submit(capability, reason, *options)
            self.assertEqual(self.reasons(waiting[reason]), {"w1": reason})
        self.worker("w2", version="1.2.3", labels={"disk": "ssd"}, gpu=True)
        for reason in ("version", "label", "gpu"):
            done = self.wait_task(waiting[reason], "succeeded", "failed")
            self.assertEqual((done["state"], done["worker_id"]), ("succeeded", "w2"))
        self.assertEqual(self.reasons(waiting["zone"]), {"w1": "zone", "w2": "zone"})
        self.assertEqual(self.task(waiting["zone"])["placement"]["zone"], "gcp")

    def test_versions_roll_over_without_a_gap(self):
        """Every task of a stream finds a worker while the workers of 1.2 make way for those of 1.3."""
        self.worker("old", version="1.2.0")
        tasks = [self.submit("echo:json@^1.2", i) for i in range(5)]
        self.worker("new", version="1.3.0")
        for i in range(5):
            tasks.append(self.submit("echo:json@^1.2", i))
        self.cluster.workers["old"].stop()
        tasks += [self.submit("echo:json@^1.2", i) for i in range(5)]
        for task in tasks:
            self.assertEqual(self.wait_task(task, "succeeded", "failed")["state"], "succeeded")
        self.assertEqual(self.run_task("echo:json@1.3.0", 7), 7)

    def test_route_says_how_the_choice_falls(self):
        self.worker("w1", version="1.1.0")
        self.worker("w2", version="1.2.0")
        answer = self.cluster.poctl("route", "echo:json@^1.2")
        self.assertEqual((answer["worker_id"], answer["candidates"], answer["turned_down"]), ("w2", 1, {"version": 1}))
        self.assertIn("least loaded", answer["why"])
        with self.assertRaises(PoctlError):
            self.cluster.poctl("route", "echo:json@^2")


class Queueing(harness.ClusterCase):
    def setUp(self):
        super().setUp()
        self.gate = self.folder / "gate"
        self.start_cluster(nodes={"cp1": "aws"})

    def test_the_higher_priority_goes_first(self):
        low = [self.submit("wait:gate", i) for i in range(2)]
        high = self.submit("wait:gate", 9, "--priority", "9")
        self.start_worker("w1", {"wait:gate": self.gated(self.gate)})
        self.wait_task(high, "running")
        self.assertEqual({self.task(t)["state"] for t in low}, {"pending"})
        self.gate.touch()
        for task in low:
            self.wait_task(task, "succeeded")

    def test_a_stop_costs_no_attempt(self):
        self.start_worker("w1", {"wait:gate": self.gated(self.gate)})
        task = self.submit("wait:gate", 1, "--attempts", "1")
        self.wait_task(task, "running")
        self.assertEqual(self.cluster.workers["w1"].stop(), 0)
        self.assertEqual((self.task(task)["state"], self.task(task)["lost_attempts"]), ("pending", 1))
        self.gate.touch()
        self.start_worker("w2", {"wait:gate": self.gated(self.gate)})
        self.assertEqual(self.wait_task(task, "succeeded", "failed")["state"], "succeeded")

    def test_a_key_limits_how_many_run(self):
        self.start_worker("w1", {"wait:gate": self.gated(self.gate, 4), "echo:json": ECHO})
        limited = [self.submit("wait:gate", i, "--concurrency-key", "k", "--concurrency", "1") for i in range(3)]
        free = self.submit("wait:gate", "free")
        self.wait_task(free, "running")
        states = [self.task(t)["state"] for t in limited]
        self.assertEqual(sorted(states), ["pending", "pending", "running"])
        waiting = limited[states.index("pending")]
        self.assertEqual(self.cluster.poctl("task", "explain", str(waiting))["waits_for"], "key")
        self.gate.touch()
        for task in limited:
            self.wait_task(task, "succeeded")

    def test_times(self):
        self.start_worker("w1", {"echo:json": ECHO})
        began = time.time()
        later = self.submit("echo:json", 1, "--run-at", "+700ms")
        self.assertEqual(self.task(later)["state"], "scheduled")
        late = self.submit("nobody:offers", 1, "--deadline", "+300ms")
        failed = self.wait_task(late, "failed", "succeeded")
        self.assertEqual((failed["state"], failed["error"]), ("failed", "not finished by its deadline"))
        done = self.wait_task(later, "succeeded", "failed")
        self.assertGreaterEqual(done["granted_ms"], began * 1000 + 699)
        gone = self.submit("echo:json", 1, "--keep", "200ms")

        def forgotten():
            try:
                return self.task(gone) and False
            except PoctlError as error:
                return "no such task" in str(error)

        wait_until(forgotten, what="the task to be forgotten")

    def test_ten_thousand_in_one_command(self):
        lines = self.folder / "inputs"
        lines.write_text("".join(f'{{"n": {i}}}\n' for i in range(10000)))
        ids = self.batch(lines)
        self.assertEqual(len(set(ids)), 10000)
        self.assertEqual(self.batch(lines), ids)  # the same key: the same tasks
        self.assertEqual(self.task(ids[9999])["input"], {"n": 9999})
        self.assertEqual(self.cluster.poctl("status")["tasks_pending"], 10000)
        page = subprocess.run([self.cluster.program("poctl"), "task", "list", "--state", "pending", "--limit", "2", "--controllers",
                               self.cluster.controllers()], capture_output=True, text=True, timeout=60, env=environment())
        self.assertEqual([line.split()[0] for line in page.stdout.splitlines()], ["TASK", *ids[:2]])
        self.assertEqual(page.stderr, f"there may be more: add --after {ids[1]}\n")

    def batch(self, path):
        return self.cluster.poctl_text("task", "submit", "echo:later", "--batch", str(path), "--key", "nightly").split()

    def test_dead_letters_come_back(self):
        self.start_worker("w1", {"fail:always": FAILING})
        task = self.submit("fail:always", 1, "--attempts", "2", "--retry-delay", "10ms")
        self.wait_task(task, "failed")
        self.assertIn(task, [t["id"] for t in self.cluster.poctl("task", "list", "--state", "failed")["tasks"]])
        self.cluster.poctl_text("task", "retry", str(task))
        again = wait_until(lambda: (lambda t: t if t["attempts"] == 4 else None)(self.task(task)), what="two more attempts")
        self.assertEqual(self.wait_task(task, "failed")["attempts"], 4, again)

    def test_a_fence_lets_only_the_lease_through(self):
        self.start_worker("w1", {"wait:gate": self.gated(self.gate)})
        task = self.submit("wait:gate")
        token = self.wait_task(task, "running")["token"]
        self.cluster.poctl_text("fence", str(task), "--token", str(token))
        with self.assertRaises(PoctlError) as refused:
            self.cluster.poctl_text("fence", str(task), "--token", str(token + 1))
        self.assertIn("PO_ESTALE", str(refused.exception))
        self.gate.touch()
        self.wait_task(task, "succeeded")
        with self.assertRaises(PoctlError):
            self.cluster.poctl_text("fence", str(task), "--token", str(token))

    def test_inputs_that_are_too_big_name_artifacts(self):
        path = self.folder / "big"
        path.write_text('"' + "x" * (1024 * 1024) + '"')
        with self.assertRaises(PoctlError) as refused:
            self.cluster.poctl("task", "submit", "echo:json", "--input-file", str(path))
        self.assertIn("artifact", str(refused.exception))


if __name__ == "__main__":
    harness.main()
