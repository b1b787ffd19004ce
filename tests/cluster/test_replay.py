"""Time travel: what a stopped node's directory tells about any moment, and why things happened."""

import json
import subprocess

import harness
from harness import ECHO, ClusterCase, environment, wait_until
from test_backup import digest_of

POCTL = str(harness.BUILD / "daemons" / "poctl")
FRAME = ("index", "term", "staleness_ms", "time_ms")  # what an answer says about the state that it was read from


def poctl(*arguments, code=0):
    ran = subprocess.run([POCTL, *map(str, arguments)], capture_output=True, text=True, timeout=60, env=environment())
    assert ran.returncode == code, f"{arguments}: exit code {ran.returncode}, not {code}: {ran.stdout[-2000:]} {ran.stderr[-2000:]}"
    return ran


def content(answer):
    """An answer without what says how it was had, and what only a leader knows and the log does not: workers' heartbeats."""
    answer = {key: value for key, value in answer.items() if key not in FRAME}
    for worker in answer.get("workers", []) if isinstance(answer.get("workers"), list) else []:
        worker.update(load=None, rtt_us=None)
    return answer


class Replay(ClusterCase):
    def replay(self, *words, folder=None, until=None, code=0):
        """The JSON of `poctl replay ...`, or what it says on stderr if it is to fail."""
        options = ["--data-dir", folder or self.data, *(["--until", until] if until is not None else [])]
        ran = poctl("replay", *words, *options, "-o", "json", code=code)
        return ran.stderr if code else json.loads(ran.stdout)

    def events(self, *options):
        ran = poctl("replay", "events", "--data-dir", self.data, "-o", "json", *options)
        return [json.loads(line) for line in ran.stdout.splitlines()]

    def live(self):
        """One node's life: a task that waits for a worker, one that fails, a run; what the node said about them at its end."""
        cluster = self.start_cluster({"cp1": "aws"})
        self.data = cluster.data_dir("cp1")
        early = self.submit("text:echo", {"n": 1}, "--key", "early")
        self.start_worker("w1", {"text:echo": ECHO, "text:fail": ["sh", "-c", "echo broken pipe >&2; exit 1"]})
        self.wait_task(early, "succeeded")
        failing = self.submit("text:fail", 2, "--attempts", "2")
        self.wait_task(failing, "failed")
        document = {"name": "two", "start_node": "a", "steps": [{"name": "a", "capability": "text:echo", "next_node": "b"},
                                                                {"name": "b", "capability": "text:echo"}]}
        path = self.folder / "two.json"
        path.write_text(json.dumps(document))
        cluster.poctl("pipeline", "define", str(path))
        run = cluster.poctl("pipeline", "run", "two", "--params", '{"p":1}')["id"]
        wait_until(lambda: cluster.poctl("pipeline", "show", str(run))["state"] == "succeeded", what="the run")
        words = [("task", "show", early), ("task", "show", failing), ("pipeline", "show", run), ("pipeline", "show", "two"),
                 ("task", "list", "--state", "failed"), ("pipeline", "list"), ("pipeline", "runs"), ("workers",), ("capabilities",),
                 ("route", "text:echo")]
        said = {w: content(cluster.poctl(*map(str, w))) for w in words}
        cluster.nodes["cp1"].kill()  # before its worker: nothing happens after the last answer
        return early, failing, run, said

    def test_the_last_state_is_what_the_node_said(self):
        early, failing, run, said = self.live()
        before = digest_of(self.data)
        for words, answer in said.items():
            self.assertEqual(content(self.replay(*words)), answer, words)
        status = self.replay("status")
        self.assertEqual((status["workers"], status["tasks_finished"], status["pipelines"]), (1, 4, 1))
        self.assertEqual([(m["name"], m["role"]) for m in status["members"]], [("cp1", "voter")])
        self.assertEqual(content(self.replay()), content(status))
        table = poctl("replay", "--data-dir", self.data)
        self.assertIn(f"the log reaches from 0 to {status['last_index']}", table.stdout)
        self.assertEqual(table.stderr, "")  # a sole voter's log is committed
        self.assertRegex(poctl("replay", "workers", "--data-dir", self.data).stdout, r"w1 +online +aws")
        self.assertEqual(digest_of(self.data), before)

    def test_going_back(self):
        early, failing, run, said = self.live()
        history = [(e["event"], e["index"]) for e in self.events("--task", early)]
        self.assertEqual([event for event, _ in history], ["task_submitted", "task_granted", "task_succeeded"])
        submitted, granted, succeeded = (index for _, index in history)
        self.assertLess(submitted, granted)
        self.assertLess(granted, succeeded)
        self.assertIn("no such task", self.replay("task", "show", early, until=submitted - 1, code=1))
        for until, state, worker in ((submitted, "pending", None), (granted - 1, "pending", None), (granted, "running", "w1"),
                                     (succeeded - 1, "running", "w1"), (succeeded, "succeeded", "w1")):
            task = self.replay("task", "show", early, until=until)
            self.assertEqual((task["index"], task["state"], task["worker_id"]), (until, state, worker))
        self.assertEqual(self.replay("workers", until=granted - 1)["workers"], [])
        self.assertEqual(self.replay("pipeline", "list", until=succeeded)["pipelines"], [])
        self.assertIn("no such pipeline", self.replay("pipeline", "show", "two", until=succeeded, code=1))
        last = self.replay()["last_index"]
        self.assertIn(f"the log ends with the entry {last}", self.replay("workers", until=last + 1, code=2))

    def test_why_it_happened(self):
        early, failing, run, said = self.live()
        before = digest_of(self.data)
        told = self.events("--task", failing)
        self.assertEqual([e["event"] for e in told], ["task_submitted", "task_granted", "attempt_failed", "task_due", "task_granted",
                                                      "task_failed"])
        self.assertIn("broken pipe", told[2]["text"])
        self.assertRegex(told[2]["text"], r"it is tried again in \d+ ms")
        self.assertIn("failed for good after 2 attempts", told[-1]["text"])
        self.assertEqual({e["worker_id"] for e in told if e["event"] == "task_granted"}, {"w1"})
        self.assertEqual([e["token"] for e in told if e["event"] == "task_granted"], [told[1]["index"], told[4]["index"]])
        told = self.events("--run", run)
        self.assertEqual([e["event"] for e in told if e["event"] != "task_granted"],
                         ["run_started", "task_submitted", "task_succeeded", "task_submitted", "task_succeeded", "run_succeeded"])
        done = [e["index"] for e in told if e["event"] == "task_succeeded"]
        begun = [e["index"] for e in told if e["event"] == "task_submitted"]
        self.assertEqual(done[0], begun[1])  # the end of a step and the start of the next are one entry
        self.assertEqual(self.events("--worker", "w1")[0]["event"], "worker_registered")
        everything = self.events()
        self.assertIn("term", [e["event"] for e in everything])
        some = self.events("--from", done[0], "--until", done[1])
        self.assertEqual(some, [e for e in everything if done[0] <= e["index"] <= done[1]])
        table = poctl("replay", "events", "--data-dir", self.data, "--task", failing).stdout
        self.assertRegex(table, r"attempt_failed +2 +- +w1 +attempt failed: .*broken pipe")
        self.assertEqual(digest_of(self.data), before)

    def test_one_of_three_says_what_it_cannot_know(self):
        cluster = self.start_cluster()
        self.submit("text:later", 1)
        leader = self.leader()
        self.data = cluster.data_dir(leader)
        said = poctl("replay", "--data-dir", self.data, code=1).stderr
        self.assertIn("PO_ELOCKED", said)
        cluster.stop()
        ran = poctl("replay", "task", "list", "--data-dir", self.data)
        self.assertIn("text:later", ran.stdout)
        self.assertIn("poctl replay task list: committed for certain up to 0; the directory of one node cannot tell", ran.stderr)

    def test_a_log_that_was_cut(self):
        cluster = self.start_cluster({"cp1": "aws"}, ("--snapshot-bytes", "64KiB", "--trailing-bytes", "1"))
        self.data = cluster.data_dir("cp1")
        file = self.folder / "input.json"
        file.write_text(json.dumps("x" * 900000))
        tasks = [cluster.poctl("task", "submit", "text:later", "--input-file", str(file))["id"] for _ in range(16)]
        wait_until(lambda: not (self.data / "wal-0000000000000001").exists(), what="the log to be cut behind a snapshot")
        cluster.stop()
        status = self.replay()
        first, last = status["first_index"], status["last_index"]
        self.assertGreater(first, 0)
        said = self.replay("workers", until=first - 1, code=2)
        self.assertIn(f"does not reach back to {first - 1}: the state can be had as of {first}, where the snapshot was taken, "
                      f"to {last}", said)
        self.assertEqual(self.replay("task", "show", tasks[0], until=first)["state"], "pending")
        self.assertIn("does not reach back", poctl("replay", "events", "--data-dir", self.data, "--from", 1, code=2).stderr)

    def test_usage(self):
        self.assertIn("--data-dir is missing", poctl("replay", code=2).stderr)
        self.assertIn("--data-dir is missing", poctl("replay", "task", "show", 1, code=2).stderr)
        self.assertIn("or a command that only asks", poctl("replay", "task", "cancel", 1, "--data-dir", "x", code=2).stderr)
        self.assertIn("is no option of poctl replay workers", poctl("replay", "workers", "--stale", "1s", code=2).stderr)
        said = poctl("replay", "workers", "--data-dir", self.folder / "nowhere", code=1).stderr
        self.assertIn("PO_ENOTFOUND", said)
        self.assertFalse((self.folder / "nowhere").exists())
        page = poctl("replay", "task", "show", "--help").stdout
        self.assertTrue(page.startswith("Usage: poctl replay task show ID"), page)
        self.assertIn("--until", page)


if __name__ == "__main__":
    harness.main()
