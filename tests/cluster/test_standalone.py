"""Workers without a cluster: their own control node, one that appears later, kill -9, stops; and workers under an operator's hands."""

import json
import os
import signal
import socket

import harness
from harness import ECHO, Daemon, PoctlError, Port, wait_until

# Ends when the gate opens, and not when it is asked to.
STUBBORN = ["sh", "-c", "trap '' TERM; cat >/dev/null; until [ -e \"$GATE\" ]; do sleep 0.02; done; echo 1"]


class StandaloneCase(harness.ClusterCase):
    def setUp(self):
        super().setUp()
        self.make_cluster({"cp1": "lab"})  # not started
        self.gate = self.folder / "gate"
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()

    def worker(self, commands, *options, env=None):
        """A worker process without --controllers, unless they are among the options."""
        command = [self.cluster.program("po-workerd"), "--id", "w1", "--capabilities", str(self.capabilities(commands)),
                   "--log-format", "json", "--heartbeat-ms", "200", *options]
        daemon = Daemon("w1", command, self.folder / "w1.log", {"TMPDIR": str(self.temporary), **(env or {})}).start()
        self.others.append(daemon)
        return daemon

    def events(self, daemon, name):
        lines = daemon.log_text().splitlines()
        return [event for event in (json.loads(line) for line in lines if line.startswith("{")) if event["id"] == name]

    def address(self, daemon):
        """Where the worker, once it is ready, serves clients of its own."""
        ready = wait_until(lambda: self.events(daemon, "workerd.ready"), what="the worker to be ready")
        self.assertIn("standalone, clients at ", ready[-1]["message"])
        return ready[-1]["message"].rsplit(" ", 1)[1]

    def ask(self, address, *arguments):
        return self.cluster.poctl(*arguments, controllers=address)

    def local_task(self, address, task, *states):
        def reached():
            found = self.ask(address, "task", "show", str(task))
            return found if found["state"] in states else None

        return wait_until(reached, what=f"task {task} {' or '.join(states)}")

    def local_submit(self, address, capability, *options):
        return self.ask(address, "task", "submit", capability, *options)["id"]


class Alone(StandaloneCase):
    def test_a_worker_is_a_cluster_of_its_own(self):
        worker = self.worker({"echo:json": ECHO})
        address = self.address(worker)
        done = self.ask(address, "task", "submit", "echo:json", "--input", "[1]", "--wait")
        self.assertEqual((done["state"], done["result"], done["worker_id"]), ("succeeded", [1], "w1"))
        spec = self.folder / "two.json"
        spec.write_text(json.dumps({"name": "two", "start_node": "a", "steps": [
            {"name": "a", "capability": "echo:json", "next_node": "b"}, {"name": "b", "capability": "echo:json"}]}))
        self.ask(address, "pipeline", "define", str(spec))
        run = self.ask(address, "pipeline", "run", "two", "--wait")
        self.assertEqual(run["state"], "succeeded")
        self.assertEqual(len(os.listdir(self.temporary)), 1)
        self.assertIn("not durable", self.events(worker, "worker.standalone")[0]["message"])
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(os.listdir(self.temporary), [])

    def test_tasks_in_a_folder_survive_kill_9(self):
        with_port = Port()
        self.when_ended.append(with_port.close)
        worker = self.worker({"wait:gate": self.gated(self.gate)}, "--standalone-dir", str(self.folder / "data"),
                             "--standalone-listen", with_port.address)
        address = self.address(worker)
        running, waiting = self.local_submit(address, "wait:gate"), self.local_submit(address, "wait:gate")
        self.local_task(address, running, "running")
        worker.kill()
        self.gate.touch()
        worker.start()
        done = self.local_task(address, running, "succeeded", "failed")
        self.assertEqual((done["state"], done["attempts"]), ("succeeded", 2))
        self.assertEqual(self.local_task(address, waiting, "succeeded", "failed")["attempts"], 1)
        self.assertEqual(worker.stop(), 0)

    def test_a_stop_does_not_wait_for_a_command_that_ignores_it(self):
        worker = self.worker({"be:stubborn": {"command": STUBBORN, "env": {"GATE": str(self.gate)}}})
        address = self.address(worker)
        self.local_task(address, self.local_submit(address, "be:stubborn"), "running")
        worker.signal(signal.SIGTERM)
        self.assertEqual(worker.wait(10), 0)
        self.assertTrue(self.events(worker, "worker.deregistered"))
        self.assertIn("1 tasks and runs", self.events(worker, "worker.lost")[0]["message"])
        self.assertEqual(os.listdir(self.temporary), [])

    def test_never_means_never(self):
        self.refused_start([self.cluster.program("po-workerd"), "--id", "w1", "--standalone", "never", "--capabilities",
                            str(self.capabilities({"echo:json": ECHO}))], "--controllers: is missing")

    def test_other_than_loopback_has_to_be_allowed(self):
        command = [self.cluster.program("po-workerd"), "--id", "w1", "--standalone-listen", "0.0.0.0:0", "--capabilities",
                   str(self.capabilities({"echo:json": ECHO}))]
        self.refused_start(command, "is not a loopback address")


class Appearing(StandaloneCase):
    def test_a_cluster_that_appears_gets_the_worker(self):
        worker = self.worker({"wait:gate": self.gated(self.gate), "echo:json": ECHO}, "--controllers", self.cluster.controllers(),
                             "--standalone-listen", "127.0.0.1:0")
        address = self.address(worker)
        tasks = [self.local_submit(address, "wait:gate") for _ in range(2)]
        self.local_task(address, tasks[0], "running")
        self.cluster.start()
        self.wait_worker("w1", "online")
        self.assertEqual(self.run_task("echo:json", {"from": "cluster"}), {"from": "cluster"}, "both are served")

        def refused():
            try:
                self.ask(address, "task", "submit", "echo:json")
            except PoctlError as error:
                return error
            return None

        error = wait_until(refused, what="the worker's own node to refuse new work")
        self.assertEqual(error.code, 1)
        self.assertIn(self.cluster.controllers(), error.stderr)
        remote = self.submit("wait:gate")  # its slot is the local task's
        self.gate.touch()
        for task in tasks:
            done = self.local_task(address, task, "succeeded", "failed")
            self.assertEqual((done["state"], done["attempts"]), ("succeeded", 1))
        self.assertEqual(self.wait_task(remote, "succeeded", "failed")["attempts"], 1)
        wait_until(lambda: os.listdir(self.temporary) == [], what="the worker's own node to end")
        self.assertEqual(self.run_task("echo:json", 7), 7)
        self.assertEqual(worker.stop(), 0)
        self.assertIsNone(self.worker_row("w1"))

    def test_ready_is_told_once_it_is_true(self):
        """Without a cluster, and not allowed to do without: not ready, however long it lasts."""
        path = str(self.folder / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(path)
            notify.setblocking(False)
            worker = self.worker({"echo:json": ECHO}, "--controllers", self.cluster.controllers(), "--standalone", "never",
                                 env={"NOTIFY_SOCKET": path})
            wait_until(lambda: self.events(worker, "worker.register"), what="a first attempt that failed")
            with self.assertRaises(BlockingIOError):
                notify.recv(100)
            self.cluster.start()
            notify.settimeout(30)
            self.assertEqual(notify.recv(100), b"READY=1")
            self.assertEqual(self.worker_row("w1")["status"], "online")
            self.assertEqual(worker.stop(), 0)
            self.assertEqual(notify.recv(100), b"STOPPING=1")


class Operated(harness.ClusterCase):
    def setUp(self):
        super().setUp()
        self.start_cluster({"cp1": "lab"})
        self.gate = self.folder / "gate"

    def test_drain_resume_and_remove(self):
        worker = self.start_worker("w1", {"wait:gate": self.gated(self.gate, concurrency=2)})
        running = self.submit("wait:gate")
        self.wait_task(running, "running")
        self.assertEqual(self.cluster.poctl("worker", "drain", "w1"), {"id": "w1"})
        waiting = self.submit("wait:gate")
        self.gate.touch()
        self.wait_task(running, "succeeded")
        self.assertEqual(self.task(waiting)["state"], "pending")
        self.assertEqual([w["status"] for w in self.cluster.poctl("worker", "list")["workers"]], ["draining"])
        self.cluster.poctl("worker", "resume", "w1")
        self.wait_task(waiting, "succeeded")
        worker.kill()
        self.cluster.poctl("worker", "remove", "w1")
        self.assertEqual(self.cluster.poctl("workers")["workers"], [])
        with self.assertRaises(PoctlError) as refused:
            self.cluster.poctl("worker", "drain", "w1")
        self.assertEqual(refused.exception.code, 1)

    def test_load_and_round_trips_are_shown(self):
        self.start_worker("w1", {"wait:gate": self.gated(self.gate)})
        self.wait_task(self.submit("wait:gate"), "running")

        def told():
            row = self.worker_row("w1")
            return row if row["rtt_us"] and row["load"]["running"] == 1 else None

        row = wait_until(told, what="load and round trip of w1")
        self.assertGreaterEqual(row["rtt_us"], row["load"]["rtt_min_us"])
        self.assertGreater(row["load"]["memory_available_bytes"], 0)
        self.assertGreater(row["load"]["memory_used_bytes"], 0)
        head, line = self.cluster.poctl_text("workers").splitlines()[:2]
        self.assertRegex(head, r"  LOAD +RTT MS  ")
        self.assertRegex(line, r"\s\d+\.\d\d\s+\d+\.\d{3}\s")

    def test_a_stop_hands_back_what_a_stubborn_command_holds(self):
        worker = self.start_worker("w1", {"be:stubborn": {"command": STUBBORN, "env": {"GATE": str(self.gate)}}})
        task = self.submit("be:stubborn")
        self.wait_task(task, "running")
        self.assertEqual(worker.stop(), 0)
        self.assertIsNone(self.worker_row("w1"))
        self.assertIn(self.task(task)["state"], ("pending", "scheduled"))

    def test_a_stop_ends_in_time_although_nobody_hears_it(self):
        """The worst of all: the default drain, a stubborn command, and a cluster that is gone."""
        commands = {"be:stubborn": {"command": STUBBORN, "env": {"GATE": str(self.gate)}}}
        worker = self.cluster.worker("w1", "aws", self.capabilities(commands))  # with the default of --drain-ms
        self.wait_worker("w1", "online")
        self.wait_task(self.submit("be:stubborn"), "running")
        self.cluster.nodes["cp1"].kill()
        worker.signal(signal.SIGTERM)
        self.assertEqual(worker.wait(10), 0)

    def test_a_killed_worker_is_shown_without_load(self):
        worker = self.start_worker("w1", {"echo:json": ECHO})
        wait_until(lambda: self.worker_row("w1")["load"], what="the load of w1")
        worker.signal(signal.SIGKILL)
        self.wait_worker("w1", "offline")
        self.assertEqual((self.worker_row("w1")["load"], self.worker_row("w1")["rtt_us"]), (None, None))


if __name__ == "__main__":
    harness.main()
