"""Workers that die, freeze, are forgotten or answer late; what a command's end means for its task."""

import shutil
import signal
import time

import harness
from harness import ECHO, wait_until


class Death(harness.ClusterCase):
    def setUp(self):
        super().setUp()
        self.gate = self.folder / "gate"
        self.start_cluster()

    def test_killed_worker_goes_offline_and_its_task_runs_elsewhere(self):
        first = self.start_worker("w1", {"wait:gate": self.gated(self.gate)})
        task = self.submit("wait:gate")
        self.wait_task(task, "running")
        self.start_worker("w2", {"wait:gate": self.gated(self.gate)})
        first.kill()
        self.wait_worker("w1", "offline")
        moved = self.task(task)
        # Offline and requeued are one commit: whoever sees the first sees the second.
        self.assertEqual((moved["state"], moved["worker_id"], moved["attempts"]), ("running", "w2", 2))
        self.gate.touch()
        done = self.wait_task(task, "succeeded", "failed")
        self.assertEqual((done["result"]["worker"], done["result"]["attempt"]), ("w2", 2))
        self.assertEqual(done["result"]["token"], done["token"])

    def test_a_frozen_workers_late_result_is_refused(self):
        zombie = self.start_worker("w1", {"wait:gate": self.gated(self.gate)})
        task = self.submit("wait:gate")
        held = self.wait_task(task, "running")
        self.start_worker("w2", {"wait:gate": self.gated(self.gate)})
        zombie.signal(signal.SIGSTOP)
        self.wait_worker("w1", "offline")
        self.gate.touch()  # both commands end now, the zombie's too: only the daemon is frozen
        done = self.wait_task(task, "succeeded", "failed")
        zombie.signal(signal.SIGCONT)
        self.wait_worker("w1", "online")
        self.assertEqual(self.run_task("wait:gate")["attempt"], 1)
        again = self.task(task)
        self.assertEqual(again["result"], done["result"])
        self.assertEqual((again["worker_id"], again["attempts"]), ("w2", 2))
        self.assertGreater(again["token"], held["token"])

    def test_a_silent_worker_is_not_given_up_before_three_beats(self):
        """Frozen right after a beat, at most one interval of the three has passed; half a one is allowed for."""
        worker = self.cluster.worker("w1", "aws", self.capabilities({"echo:json": ECHO}), ("--heartbeat-ms", "1000"))
        self.wait_worker("w1", "online")
        began = time.monotonic()
        worker.signal(signal.SIGSTOP)
        self.wait_worker("w1", "offline")
        self.assertGreaterEqual(time.monotonic() - began, 1.5)

    def test_a_restarted_worker_takes_its_own_place(self):
        worker = self.start_worker("w1", {"wait:gate": self.gated(self.gate)})
        task = self.submit("wait:gate")
        self.wait_task(task, "running")
        before = self.worker_row("w1")["incarnation"]
        worker.kill()
        worker.start()
        wait_until(lambda: self.worker_row("w1")["incarnation"] > before, what="a new incarnation of w1")
        self.gate.touch()
        self.assertEqual(self.wait_task(task, "succeeded", "failed")["result"]["worker"], "w1")

    def test_worker_outlives_the_leader_and_keeps_its_task(self):
        self.start_worker("w1", {"wait:gate": self.gated(self.gate)})
        task = self.submit("wait:gate")
        self.wait_task(task, "running")
        leader = self.leader()
        self.cluster.nodes[leader].kill()
        self.leader(*self.followers(leader))
        self.gate.touch()
        done = self.wait_task(task, "succeeded", "failed")
        self.assertEqual((done["state"], done["attempts"], done["lost_attempts"]), ("succeeded", 1, 0))


class Unknown(harness.ClusterCase):
    def test_worker_that_the_cluster_does_not_know_registers_again(self):
        """The cluster is wiped and founded anew at the same addresses; nobody tells the worker."""
        cluster = self.start_cluster({"cp1": "lab"})
        self.start_worker("w1", {"echo:json": ECHO})
        self.run_task("echo:json", "before")
        cluster.nodes["cp1"].kill()
        shutil.rmtree(cluster.data_dir("cp1"))
        cluster.nodes["cp1"].start()
        self.wait_worker("w1", "online")
        self.assertEqual(cluster.poctl("task", "list")["tasks"], [], "founded anew")
        self.assertEqual(self.run_task("echo:json", [1]), [1])


class Commands(harness.ClusterCase):
    def setUp(self):
        super().setUp()
        self.start_cluster({"cp1": "lab"})

    def outcome(self, command, *options, **description):
        self.start_worker("w1", {"do:it": {"command": ["sh", "-c", command], **description}})
        return self.wait_task(self.submit("do:it", {"n": 1}, *options), "succeeded", "failed")

    def test_final_exit_code_fails_at_once(self):
        task = self.outcome("echo row 7 is bad >&2; exit 65")
        self.assertEqual((task["state"], task["attempts"]), ("failed", 1))
        self.assertIn("row 7 is bad", task["error"])

    def test_other_exit_code_is_tried_again(self):
        count = self.folder / "count"
        task = self.outcome(f"echo x >>{count}; [ $PO_ATTEMPT = 2 ] && echo 5 || exit 1")
        self.assertEqual((task["state"], task["attempts"], task["result"]), ("succeeded", 2, 5))
        self.assertEqual(count.read_text(), "x\nx\n")

    def test_attempts_run_out(self):
        task = self.outcome("echo out of luck >&2; exit 3", "--attempts", "2")
        self.assertEqual((task["state"], task["attempts"]), ("failed", 2))
        self.assertIn("out of luck", task["error"])

    def test_time_limit_ends_the_whole_process_group(self):
        child = self.folder / "child"
        task = self.outcome(f"sleep 300 & echo $! >{child}; wait", "--attempts", "1", timeout_ms=300)
        self.assertEqual(task["state"], "failed")
        wait_until(lambda: not alive(int(child.read_text())), what="the child of the command to be ended")

    def test_result_that_is_no_json_is_an_error(self):
        task = self.outcome("echo not json", "--attempts", "1")
        self.assertEqual(task["state"], "failed")
        self.assertIn("JSON", task["error"])

    def test_input_and_environment(self):
        task = self.outcome("printf '[%s,%s,%s,\"%s\"]' \"$(cat)\" $PO_TASK_ID $PO_ATTEMPT $PO_CAPABILITY")
        self.assertEqual(task["result"], [{"n": 1}, task["id"], 1, "do:it"])

    def test_concurrency_is_bounded_per_capability(self):
        gate = self.folder / "gate"
        self.start_worker("w1", {"wait:gate": self.gated(gate, concurrency=2)})
        tasks = [self.submit("wait:gate") for _ in range(4)]

        def states():
            return [self.task(task)["state"] for task in tasks]

        wait_until(lambda: states() == ["running", "running", "pending", "pending"], what="two running, two waiting")
        gate.touch()
        wait_until(lambda: states() == ["succeeded"] * 4, what="all done")

    def test_cancelled_task_is_ended_at_its_worker(self):
        child = self.folder / "child"
        self.start_worker("w1", {"do:it": ["sh", "-c", f"echo $$ >{child}; sleep 300"]})
        task = self.submit("do:it")
        wait_until(lambda: child.exists() and child.read_text().strip(), what="the command to run")
        self.cluster.poctl("task", "cancel", str(task))
        wait_until(lambda: not alive(int(child.read_text())), what="the command to be ended")
        self.assertEqual(self.task(task)["state"], "cancelled")

    def test_route_names_the_worker_of_the_zone(self):
        self.start_worker("w1", {"echo:json": ECHO}, zone="aws")
        self.start_worker("w2", {"echo:json": ECHO}, zone="gcp")
        for worker, zone in (("w1", "aws"), ("w2", "gcp")):
            self.assertEqual(self.cluster.poctl("route", "echo:json", "--zone", zone)["worker_id"], worker)


def alive(pid):
    """Whether a process runs; one that has ended and only waits for its parent does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    harness.main()
