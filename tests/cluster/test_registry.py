"""The registry as its users see it: nine workers of a platform, two of them alike but for a GPU, and a cluster that forgot them."""

import collections
import json
import pathlib
import shutil
import signal

import harness
from harness import GATED, NAMES, PoctlError, wait_until

WORKERS = json.loads((pathlib.Path(__file__).parent / "data" / "workers.json").read_text())
IMAGES = "classify:image_category"
CPU, GPU = "crank-image-classifier", "crank-image-classifier-gpu"
# Says who did it, where and with what.
TELL = ["sh", "-c", "printf '{\"worker\":\"%s\",\"capability\":\"%s\",\"input\":%s}' $PO_WORKER_ID $PO_CAPABILITY \"$(cat)\""]


def name_of(capability):
    return f"{capability['verb']}:{capability['name']}"


def offered():
    """{capability: the ids of its workers}."""
    found = collections.defaultdict(set)
    for worker in WORKERS:
        for capability in worker["capabilities"]:
            found[name_of(capability)].add(worker["worker_id"])
    return found


class Platform(harness.ClusterCase):
    def start_platform(self, description, among=None):
        """The workers of the file, in three zones; each executes what `description` says. Returns when all are online."""
        zones = list(NAMES.values())
        chosen = [w for w in WORKERS if among is None or w["worker_id"] in among]
        for i, worker in enumerate(chosen):
            commands = {name_of(c): {**description, **{key: c[key] for key in ("version", "requires_gpu", "max_concurrency")}}
                        for c in worker["capabilities"]}
            self.cluster.worker(worker["worker_id"], zones[i % 3], self.capabilities(commands),
                                (*harness.WORKER_OPTIONS, "--address", f"127.0.0.1:{worker['port']}"))
        self.wait_online({w["worker_id"] for w in chosen})

    def rows(self):
        return {w["id"]: w for w in self.cluster.poctl("workers")["workers"]}

    def wait_online(self, ids):
        wait_until(lambda: {i for i, w in self.rows().items() if w["status"] == "online"} == ids, what=f"{len(ids)} workers online")

    def submit_many(self, capability, count, *options):
        batch = self.folder / "batch.jsonl"
        batch.write_text("".join(f"{i}\n" for i in range(count)))
        return [int(line) for line in
                self.cluster.poctl_text("task", "submit", capability, "--batch", str(batch), *options).split()]

    def states(self, tasks):
        return collections.Counter(self.task(task)["state"] for task in tasks)

    def wait_states(self, tasks, **counts):
        wait_until(lambda: self.states(tasks) == counts, what=f"{counts} of {len(tasks)} tasks")

    def who(self, tasks):
        """{worker: how many of the tasks it has, or had}."""
        return collections.Counter(self.task(task)["worker_id"] for task in tasks)


class Registry(Platform):
    def test_nine_workers_register_and_each_is_found_and_works(self):
        self.start_cluster()
        self.start_platform({"command": TELL})
        rows = self.rows()
        for worker in WORKERS:
            row = rows[worker["worker_id"]]
            self.assertEqual(row["address"], f"127.0.0.1:{worker['port']}")
            self.assertEqual([(c["name"], c["version"], c["requires_gpu"], c["max_concurrency"]) for c in row["capabilities"]],
                             [(name_of(c), c["version"], c["requires_gpu"], c["max_concurrency"])
                              for c in sorted(worker["capabilities"], key=name_of)])
        self.check_capabilities()
        self.check_routes()
        for worker in WORKERS:
            for capability in worker["capabilities"]:
                name = name_of(capability)
                gpu = ("--gpu", "required" if capability["requires_gpu"] else "forbidden")
                self.assertEqual(self.run_task(name, [1], *gpu), {"worker": worker["worker_id"], "capability": name, "input": [1]})

    def check_capabilities(self):
        listed = {c["name"]: c for c in self.cluster.poctl("capabilities")["capabilities"]}
        self.assertEqual({name: (c["workers"], c["workers_online"], c["versions"], c["slots"], c["free_slots"])
                          for name, c in listed.items()},
                         {name: (len(ids), len(ids), ["1.0.0"], 10 * len(ids), 10 * len(ids)) for name, ids in offered().items()})
        self.assertEqual([name for name, c in listed.items() if c["requires_gpu"]], [IMAGES])
        self.assertEqual({(k["version"], k["requires_gpu"], k["workers"]) for k in listed[IMAGES]["kinds"]},
                         {("1.0.0", False, 1), ("1.0.0", True, 1)})
        table = self.cluster.poctl_text("capabilities")
        self.assertRegex(table, rf"(?m)^{IMAGES} +1\.0\.0 +2 +2 +20 +20 +0 +0 +yes$")
        self.assertRegex(table, r"(?m)^greet:hello_world +1\.0\.0 +1 +1 +10 +10 +0 +0 +no$")
        table = self.cluster.poctl_text("workers")
        for worker in WORKERS:
            self.assertRegex(table, rf"(?m)^{worker['worker_id']} +online ")

    def check_routes(self):
        for name, ids in offered().items():
            route = self.cluster.poctl("route", f"{name}@^1")
            self.assertIn(route["worker_id"], ids)
            self.assertEqual((route["version"], route["running"], route["candidates"]), ("1.0.0", 0, len(ids)))
        for zone in NAMES.values():  # among equals the near one; the two classifiers are in two zones
            near = {w for w in offered()[IMAGES] if self.rows()[w]["zone"] == zone}
            route = self.cluster.poctl("route", IMAGES, "--zone", zone)
            self.assertIn(route["worker_id"], near or offered()[IMAGES])
        for nobody in ("classify:image_categroy", f"{IMAGES}@^2"):
            with self.assertRaises(PoctlError) as refused:
                self.cluster.poctl("route", nobody)
            self.assertEqual(refused.exception.code, 1)


class Duplicates(Platform):
    """Two workers with one capability, ten tasks at a time each; the tasks wait for a file."""

    def setUp(self):
        super().setUp()
        self.gate = self.folder / "gate"
        self.start_cluster()
        self.start_platform({"command": GATED, "env": {"GATE": str(self.gate)}}, among={CPU, GPU})

    def test_they_share_the_load(self):
        tasks = self.submit_many(IMAGES, 20)
        self.wait_states(tasks, running=20)
        self.assertEqual(self.who(tasks), {CPU: 10, GPU: 10})
        self.gate.touch()
        self.wait_states(tasks, succeeded=20)
        self.assertEqual(collections.Counter(self.task(task)["result"]["worker"] for task in tasks), {CPU: 10, GPU: 10})

    def test_a_task_may_insist_on_a_gpu_or_on_none(self):
        for wish, worker in (("required", GPU), ("forbidden", CPU)):
            with self.subTest(wish):
                tasks = self.submit_many(IMAGES, 20, "--gpu", wish)
                self.wait_states(tasks, running=10, pending=10)
                self.assertEqual(self.who(t for t in tasks if self.task(t)["state"] == "running"), {worker: 10})
                waiting = next(t for t in tasks if self.task(t)["state"] == "pending")
                told = {w["worker_id"]: w["reason"] for w in self.explain(waiting)["workers"]}
                self.assertEqual(told, {worker: "slots", {GPU: CPU, CPU: GPU}[worker]: "gpu"})
                self.gate.touch()
                self.wait_states(tasks, succeeded=20)
                self.assertEqual(self.who(tasks), {worker: 20})
                self.gate.unlink()

    def explain(self, task):
        return self.cluster.poctl("task", "explain", str(task))

    def test_the_gpu_worker_dies(self):
        either = self.submit_many(IMAGES, 8)
        insists = self.submit_many(IMAGES, 3, "--gpu", "required")
        self.wait_states(either + insists, running=11)
        had = {t for t in either if self.task(t)["worker_id"] == GPU}
        self.assertEqual(len(had), 4)
        self.cluster.workers[GPU].kill()
        self.wait_worker(GPU, "offline")
        # Offline and given to the other are one commit.
        self.assertEqual(self.who(either), {CPU: 8})
        self.assertEqual({t for t in either if self.task(t)["attempts"] == 2}, had)
        self.assertEqual(self.states(insists), {"pending": 3})
        why = self.explain(insists[0])
        self.assertEqual((why["state"], why["waits_for"]), ("pending", "worker"))
        self.assertEqual({w["worker_id"]: w["reason"] for w in why["workers"]}, {CPU: "gpu", GPU: "offline"})
        page = self.cluster.poctl_text("task", "explain", str(insists[0]))
        self.assertRegex(page, rf"(?m)^{CPU} +gpu ")
        self.gate.touch()
        self.wait_states(either, succeeded=8)
        self.assertEqual(self.states(insists), {"pending": 3})
        self.cluster.workers[GPU].start()
        self.wait_states(insists, succeeded=3)
        self.assertEqual(self.who(insists), {GPU: 3})


class Amnesia(Platform):
    def forget_everything(self):
        for node in self.cluster.nodes.values():
            node.kill()
        for name in self.cluster.nodes:
            shutil.rmtree(self.cluster.data_dir(name))
        for node in self.cluster.nodes.values():
            node.start()
        self.leader()

    def test_a_control_plane_without_its_state_is_repopulated_by_the_workers(self):
        self.start_cluster()
        gate = self.folder / "gate"
        self.start_platform({"command": ["sh", "-c", "until [ -e \"$GATE\" ]; do sleep 0.02; done; cat"], "env": {"GATE": str(gate)}})
        ids = {w["worker_id"] for w in WORKERS}
        processes = {w: self.cluster.workers[w].process.pid for w in ids}
        orphans = [self.submit(IMAGES, "of the cluster before") for _ in range(4)]
        self.wait_states(orphans, running=4)
        self.forget_everything()
        self.wait_online(ids)
        after = self.cluster.poctl("status")
        self.assertEqual((after["workers"], after["tasks_running"], after["tasks_finished"]), (9, 0, 0))
        new = {name: self.submit(name, f"new {name}") for name in offered()}
        images = self.submit_many(IMAGES, 20)
        gate.touch()  # ends also what still runs for the cluster before; its results are nobody's
        for name, task in new.items():
            self.assertEqual(self.wait_task(task, "succeeded", "failed")["result"], f"new {name}")
        self.wait_states(images, succeeded=20)
        self.assertEqual([self.task(t)["result"] for t in images], list(range(20)))
        self.assertEqual({w: self.cluster.workers[w].process.pid for w in ids if self.cluster.workers[w].running()}, processes)
        self.assertEqual(self.cluster.poctl("status")["tasks_finished"], len(new) + 20)

    def test_a_result_for_the_cluster_before_is_nobodys(self):
        """The new cluster repeats the old one's life so exactly that the new task has the old one's id and token."""
        cluster = self.start_cluster({"cp1": "aws"})
        gate = self.folder / "gate"

        def submit(text):
            task = self.submit("echo:gated", text)
            worker.signal(signal.SIGCONT)
            return self.wait_task(task, "running")

        worker = cluster.worker("w1", "aws", self.capabilities({"echo:gated": {
            "command": ["sh", "-c", "until [ -e \"$GATE\" ]; do sleep 0.02; done; cat"], "env": {"GATE": str(gate)},
            "max_concurrency": 2}}), harness.WORKER_OPTIONS)
        worker.signal(signal.SIGSTOP)
        old = submit("old")
        worker.signal(signal.SIGSTOP)
        self.forget_everything()
        new = submit("new")
        self.assertEqual((new["id"], new["token"]), (old["id"], old["token"]))
        gate.touch()
        self.assertEqual(self.wait_task(new["id"], "succeeded", "failed")["result"], "new")


if __name__ == "__main__":
    harness.main()
