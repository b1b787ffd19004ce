"""Founding a cluster, and a clean stop of everything."""

import json
import signal
import socket
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

    def test_systemd_is_told(self):
        """Each daemon says when it is ready, and when it has been told to stop."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            path = str(self.folder / "notify")
            systemd.bind(path)
            systemd.settimeout(20)
            cluster = self.make_cluster({"alone": "lab"})
            node = cluster.nodes["alone"]
            node.env = {"NOTIFY_SOCKET": path}
            node.start()
            self.assertEqual(systemd.recv(64), b"READY=1")
            worker = self.start_worker("w1", {"echo:json": ECHO})
            worker.stop()
            worker.env = {"NOTIFY_SOCKET": path}
            worker.start()
            self.assertEqual(systemd.recv(64), b"READY=1")
            for daemon in (worker, node):
                self.assertEqual(daemon.stop(), 0)
                self.assertEqual(systemd.recv(64), b"STOPPING=1")

    def test_logs_are_json_lines(self):
        cluster = self.start_cluster({"alone": "lab"})
        cluster.nodes["alone"].stop()
        lines = [json.loads(line) for line in cluster.nodes["alone"].log_text().splitlines()]
        self.assertTrue(all({"time", "level", "id", "message"} <= set(line) for line in lines))


if __name__ == "__main__":
    harness.main()
