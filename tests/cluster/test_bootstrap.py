"""Founding a cluster, what a data directory refuses, what a typo meets, and a clean stop."""

import json
import signal
import time

import harness
from harness import ECHO, NAMES, wait_until


class Founding(harness.ClusterCase):
    def test_three_nodes_become_one_cluster(self):
        cluster = self.start_cluster()

        def complete():
            status = cluster.poctl("status")
            return status if sum(m["up"] for m in status["members"]) == 3 and all(m["zone"] for m in status["members"]) else None

        status = wait_until(complete, what="three members up")
        self.assertEqual({m["name"]: m["zone"] for m in status["members"]}, NAMES)
        self.assertEqual([m["role"] for m in status["members"]], ["voter"] * 3)
        self.assertEqual([m["name"] for m in status["members"] if m["leader"]], [status["leader"]])
        self.assertEqual(status["staleness_ms"], 0)
        self.assertEqual({m["name"]: m["worker_address"] for m in status["members"]},
                         {node: port.address for node, port in cluster.worker_ports.items()})

    def test_one_node_is_a_cluster(self):
        cluster = self.start_cluster({"alone": "lab"})
        self.start_worker("w1", {"echo:json": ECHO})
        self.assertEqual(self.run_task("echo:json", {"a": [1, None, "ü"]}), {"a": [1, None, "ü"]})
        node = cluster.nodes["alone"]
        node.kill()
        node.start()
        self.assertEqual(self.leader(), "alone")
        self.wait_worker("w1", "online")
        self.assertEqual(self.run_task("echo:json", 7), 7)

    def test_an_empty_directory_is_refused_without_bootstrap(self):
        cluster = self.make_cluster()
        command = [word for word in cluster.nodes["cp1"].command if word != "--bootstrap"]
        self.refused_start(command, "bootstrap", str(cluster.data_dir("cp1")))

    def test_bootstrapping_twice_does_nothing(self):
        """Every start of this harness says --bootstrap: the second must find the first one's data."""
        cluster = self.start_cluster({"alone": "lab"})
        first = cluster.poctl("status")["cluster_id"]
        task = self.submit("echo:json", 1)
        self.assertEqual(cluster.nodes["alone"].stop(), 0)
        cluster.nodes["alone"].start()
        self.assertEqual(cluster.poctl("status")["cluster_id"], first)
        self.assertEqual(self.task(task)["state"], "pending")


class Directory(harness.ClusterCase):
    def command(self, **changed):
        """cp1's command with other values for some flags."""
        command = list(self.cluster.nodes["cp1"].command)
        for flag, value in changed.items():
            command[command.index("--" + flag.replace("_", "-")) + 1] = value
        return command

    def test_a_second_process_is_refused(self):
        cluster = self.start_cluster({"cp1": "lab"})
        spare = harness.Port()
        self.addCleanup(spare.close)
        self.refused_start(self.command(), str(cluster.data_dir("cp1")), "PO_ELOCKED", code=1)
        self.assertTrue(cluster.nodes["cp1"].running())
        self.assertEqual(self.leader(), "cp1")

    def test_another_identity_is_refused(self):
        cluster = self.start_cluster()
        self.assertEqual(cluster.nodes["cp1"].stop(), 0)
        directory = str(cluster.data_dir("cp1"))
        with self.subTest("another cluster"):
            self.refused_start(self.command(cluster="other"), directory, "PO_EIDENTITY")
        with self.subTest("another node's name"):
            members = cluster.members().replace("cp1=", "cp9=")
            self.refused_start(self.command(name="cp9", initial_members=members), directory, "PO_EIDENTITY")
        with self.subTest("other founding members"):
            self.refused_start(self.command(initial_members=cluster.members().replace("cp3=", "cp4=")), "PO_EIDENTITY")
        with self.subTest("its own is accepted as before"):
            cluster.nodes["cp1"].start()
            wait_until(lambda: self.status_of("cp1")["up"], what="cp1 up")

    def test_another_clusters_node_is_not_let_in(self):
        """A stranger at a member's address, with the same names but founded apart, changes nothing."""
        cluster = self.start_cluster()
        leader = self.leader()
        victim = self.followers(leader)[0]
        cluster.nodes[victim].kill()
        command = cluster.node_command(victim, NAMES[victim], harness.NODE_OPTIONS)
        command[command.index("--data-dir") + 1] = str(self.folder / "stranger")
        command[command.index("--cluster") + 1] = "other"
        stranger = harness.Daemon("stranger", command, self.folder / "stranger.log").start()
        self.others.append(stranger)
        wait_until(lambda: "peer" in stranger.log_text(), what="the stranger to meet the others")
        self.assertEqual(self.leader(*(n for n in NAMES if n != victim)), leader)
        self.assertFalse(next(m for m in cluster.poctl("status", controllers=cluster.controllers(leader))["members"]
                              if m["name"] == victim)["up"])


class Typos(harness.ClusterCase):
    def setUp(self):
        super().setUp()
        self.command = list(self.make_cluster().nodes["cp1"].command)

    def test_environment(self):
        self.refused_start(self.command, "PO_BOOTSTRP", "PO_BOOTSTRAP", env={"PO_BOOTSTRP": "1"})

    def test_flag(self):
        self.refused_start([*self.command, "--bootstrapp"], "--bootstrapp", "--bootstrap")

    def test_config_key_with_its_place(self):
        config = self.folder / "node.json"
        config.write_text('{\n  "snapshot_bytes": 65536,\n  "electon_ms": 500\n}\n')
        self.refused_start([*self.command, "--config", str(config)], f"{config}:3:", "electon_ms", "election_ms")

    def test_value(self):
        self.refused_start([*self.command, "--segment-bytes", "1mb"], "--segment-bytes", "1mb")

    def test_every_problem_is_listed_at_once(self):
        self.refused_start([*self.command, "--zone", "a b", "--log-level", "loud"], "--zone", "--log-level",
                           "PO_NAEM", env={"PO_NAEM": "x"})

    def test_a_public_address_needs_insecure(self):
        command = list(self.command)
        command[command.index("--listen") + 1] = f"0.0.0.0:{self.cluster.peer_ports['cp1'].number}"
        self.refused_start(command, "insecure")

    def test_worker_file(self):
        path = self.capabilities({"echo:json": {"command": ["cat"], "max_concurency": 2}, "echo json": ["cat"]})
        worker = [self.cluster.program("po-workerd"), "--id", "w1", "--controllers", self.cluster.controllers(),
                  "--capabilities", str(path)]
        self.refused_start(worker, str(path), "max_concurency", "max_concurrency", "echo json")

    def test_poctl(self):
        self.refused_start([self.cluster.program("poctl"), "statsu"], "statsu", "status")


class Stopping(harness.ClusterCase):
    def test_sigterm_ends_everything_with_0_in_time(self):
        cluster = self.start_cluster()
        gate = self.folder / "gate"
        self.start_worker("w1", {"wait:gate": self.gated(gate)})
        task = self.submit("wait:gate")
        self.wait_task(task, "running")
        leader = self.leader()
        for daemon in [cluster.workers["w1"], *(cluster.nodes[n] for n in self.followers(leader)), cluster.nodes[leader]]:
            with self.subTest(daemon.name):
                began = time.monotonic()
                self.assertEqual(daemon.stop(), 0)
                self.assertLess(time.monotonic() - began, 10)

    def test_sigint_too(self):
        cluster = self.start_cluster({"alone": "lab"})
        cluster.nodes["alone"].signal(signal.SIGINT)
        self.assertEqual(cluster.nodes["alone"].wait(), 0)

    def test_a_drained_worker_leaves_and_its_task_goes_on_elsewhere(self):
        cluster = self.start_cluster({"alone": "lab"})
        gate = self.folder / "gate"
        self.start_worker("w1", {"wait:gate": self.gated(gate)})
        task = self.submit("wait:gate")
        self.wait_task(task, "running")
        self.start_worker("w2", {"wait:gate": self.gated(gate)})
        self.assertEqual(cluster.workers["w1"].stop(), 0)
        gate.touch()
        done = self.wait_task(task, "succeeded", "failed")
        self.assertEqual((done["state"], done["worker_id"], done["result"]["attempt"]), ("succeeded", "w2", 2))
        self.assertIsNone(self.worker_row("w1"))

    def test_logs_are_json_lines(self):
        cluster = self.start_cluster({"alone": "lab"})
        cluster.nodes["alone"].stop()
        lines = [json.loads(line) for line in cluster.nodes["alone"].log_text().splitlines()]
        self.assertTrue(all({"time", "level", "id", "message"} <= set(line) for line in lines))


if __name__ == "__main__":
    harness.main()
