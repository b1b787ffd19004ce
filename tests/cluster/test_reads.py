"""What a read may answer: a leader that was frozen and deposed, and nodes that are cut off."""

import signal
import subprocess
import time

import harness
from harness import PoctlError, environment, wait_until


class Reads(harness.ClusterCase):
    def stale(self, node, bound, *question):
        """The answer of this node's own state, at most `bound` old."""
        return self.cluster.poctl(*(question or ("status",)), "--stale", bound,
                                  controllers=self.cluster.controllers(node), timeout_s=5)

    def refused(self, node, bound):
        """Does the node say that its state is older than the bound?"""
        try:
            self.stale(node, bound)
        except PoctlError as error:
            return "PO_ESTALE_READ" in str(error)
        return False

    def freeze(self, *nodes):
        for node in nodes:
            self.cluster.nodes[node].signal(signal.SIGSTOP)

    def thaw(self, *nodes):
        for node in nodes:
            self.cluster.nodes[node].signal(signal.SIGCONT)

    def ask_thawing(self, node, *question):
        """Ask a frozen node several times, thaw it, and return (exit code, answer, error) of each."""
        command = [self.cluster.program("poctl"), "--controllers", self.cluster.controllers(node), "-o", "json", *question]
        asked = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
                 for _ in range(5)]
        self.thaw(node)
        answers = [process.communicate(timeout=60) for process in asked]
        return [(process.returncode, out, err) for process, (out, err) in zip(asked, answers)]

    def test_frozen_leader_answers_no_old_state(self):
        """Questions wait at a frozen leader while the next one commits; thawed, it must not answer from before."""
        self.start_cluster()
        old = self.leader()
        others = self.followers(old)
        before = self.submit("nobody:home")
        self.freeze(old)
        self.leader(*others, but=old)
        after = self.cluster.poctl("task", "submit", "nobody:home", controllers=self.cluster.controllers(*others))["id"]
        for code, out, err in self.ask_thawing(old, "task", "list"):
            self.assertEqual(code, 0, err)
            for task in (before, after):
                self.assertIn(f'"id": {task}', out)

    def test_follower_answers_stale_reads_until_the_bound(self):
        self.start_cluster()
        leader = self.leader()
        follower, other = self.followers(leader)
        task = self.submit("nobody:home")
        answer = self.stale(follower, "30s")
        self.assertEqual(answer["node"], follower)
        self.assertEqual(answer["leader"], leader)
        self.assertLessEqual(answer["staleness_ms"], 30000)
        # What was acknowledged before the question is in any answer that is confirmed after it.
        shown = wait_until(lambda: self.stale(follower, "200ms", "task", "show", str(task)), what="a fresh answer")
        self.assertEqual(shown["id"], task)
        self.freeze(leader, other)
        try:
            wait_until(lambda: self.refused(follower, "1s"), what="the bound")
            # Who allows more is still answered.
            answer = self.stale(follower, "30m", "task", "show", str(task))
            self.assertEqual(answer["id"], task)
            self.assertGreater(answer["staleness_ms"], 1000)
        finally:
            self.thaw(leader, other)
        wait_until(lambda: not self.refused(follower, "1s"), what="the follower catching up")

    def test_thawed_follower_knows_its_age(self):
        """A node that was frozen has old words of the leader in its buffers; they make nothing fresh."""
        cluster = self.start_cluster()
        leader = self.leader()
        follower, other = self.followers(leader)
        self.stale(follower, "30s")
        self.freeze(follower)
        task = cluster.poctl("task", "submit", "nobody:home", controllers=cluster.controllers(leader, other))["id"]
        acknowledged = time.monotonic()
        wait_until(lambda: time.monotonic() - acknowledged > 0.5, what="time that passes while it is frozen")
        for code, out, err in self.ask_thawing(follower, "task", "show", str(task), "--stale", "400ms"):
            if code == 0:
                self.assertIn(f'"id": {task}', out)
            else:
                self.assertIn("PO_ESTALE_READ", err)

    def test_every_node_answers_stale_reads(self):
        self.start_cluster()
        task = self.submit("nobody:home")
        for node in self.cluster.nodes:
            answer = wait_until(lambda n=node: self.stale(n, "200ms", "task", "show", str(task)), what="a fresh answer")
            self.assertEqual(answer["state"], "pending")
            self.assertLessEqual(answer["staleness_ms"], 200)
            self.assertGreater(answer["term"], 0)


if __name__ == "__main__":
    harness.main()
