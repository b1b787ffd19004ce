"""poctl watch: every event once, in order, from any position, whichever node leads; and a marker where history is gone."""

import json
import signal
import subprocess

import harness
from harness import ECHO, environment, wait_until

PAYLOAD = "x" * 30000
WORDS = {"task_submitted", "task_granted", "task_finished"}


class Watch:
    """A running poctl watch, and what it has printed."""

    def __init__(self, case, *options, controllers=None, text=False):
        self.path = case.folder / f"watch-{len(list(case.folder.glob('watch-*')))}.out"
        form = [] if text else ["-o", "json"]
        command = [str(harness.BUILD / "daemons" / "poctl"), "watch", *form, *map(str, options), "--controllers",
                   controllers or case.cluster.controllers()]
        with open(self.path, "wb") as out, open(self.path.with_suffix(".log"), "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=environment())
        case.addCleanup(self.end)

    def lines(self):
        return self.path.read_text().splitlines()

    def events(self):
        """Those that are whole: each line is flushed, but may be read while it is written."""
        return [json.loads(line) for line in self.path.read_text().split("\n")[:-1]]

    def wait(self, wanted, what):
        """Until an event is seen that `wanted` is true of; it."""
        return wait_until(lambda: next((e for e in self.events() if wanted(e)), None), what=what)

    def end(self, number=signal.SIGINT):
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=10)


def place(event):
    return event["index"], event["position"]


class Watching(harness.ClusterCase):
    def finished(self, task):
        return lambda e: e["event"] == "task_finished" and e.get("task_id") == task

    def all_up(self):
        wait_until(lambda: all(m["up"] for m in self.cluster.poctl("status")["members"]), what="all members up")

    def check_order(self, events):
        places = [place(e) for e in events]
        self.assertEqual(places, sorted(set(places)), "events out of order, or twice")

    def check_task(self, events, task):
        """Submitted, then attempts, of which only the last one finished."""
        seen = [e for e in events if e.get("task_id") == task]
        words = [e["event"] for e in seen]
        self.assertEqual(words[0], "task_submitted", seen)
        self.assertEqual(words[-1], "task_finished", seen)
        self.assertEqual(seen[-1]["state"], "succeeded")
        attempts = words[1:-1]
        self.assertEqual(attempts, ["task_granted", "task_lost"] * (len(attempts) // 2) + ["task_granted"], seen)
        granted = [e["attempt"] for e in seen if e["event"] == "task_granted"]
        self.assertEqual(granted, list(range(1, len(granted) + 1)))

    def history(self, last, *options):
        """All that is kept, up to the position `last`."""
        watch = Watch(self, "--from", "1", *options)
        watch.wait(lambda e: place(e) >= last, what=f"the event at {last}")
        self.assertEqual(watch.end(), 0)
        return [e for e in watch.events() if place(e) <= last]

    def test_through_three_killed_leaders(self):
        cluster = self.start_cluster()
        self.start_worker("w1", {"echo:json": {"command": ECHO, "max_concurrency": 4}})
        watch = Watch(self, "--from", "1")
        tasks, killed = [], []
        for _ in range(3):
            tasks += [self.submit("echo:json", 1) for _ in range(3)]
            leader = self.leader()
            killed.append(leader)
            cluster.nodes[leader].kill()
            tasks += [self.submit("echo:json", 2) for _ in range(3)]
            cluster.nodes[leader].start()
            self.all_up()
        for task in tasks:
            last = watch.wait(self.finished(task), what=f"the end of task {task}")
        last = max(place(e) for e in watch.events())
        events = watch.events()
        self.assertEqual(watch.end(), 0)
        self.check_order(events)
        self.assertEqual([e["task_id"] for e in events if e["event"] == "task_submitted"], tasks)
        for task in tasks:
            self.check_task(events, task)
        leaders = [(e["term"], e["name"]) for e in events if e["event"] == "leader"]
        self.assertEqual(leaders, sorted(set(leaders)), "a term has one leader")
        self.assertGreaterEqual(len(leaders), 4)
        self.assertLessEqual(set(killed), {name for _, name in leaders})
        # Another node, which derived the events by itself, has the same ones at the same places.
        self.assertEqual(self.history(last), [e for e in events if place(e) <= last])
        leader = self.leader()
        cluster.nodes[leader].kill()
        self.leader(*self.followers(leader), but=leader)
        self.assertEqual(self.history(last), [e for e in events if place(e) <= last])

    def test_resume_and_filters(self):
        cluster = self.start_cluster({"cp1": "aws"})
        self.start_worker("w1", {"echo:json": ECHO})
        tasks = [self.submit("echo:json", 1) for _ in range(3)]
        watch = Watch(self, "--from", "1")
        last = place(watch.wait(self.finished(tasks[-1]), what="the last task"))
        events = watch.events()
        self.assertEqual(watch.end(signal.SIGTERM), 0)
        self.assertEqual([e["name"] for e in events if e["event"] == "leader"], ["cp1"])

        middle = place(events[len(events) // 2])
        again = Watch(self, "--resume", "%d:%d" % middle)
        again.wait(lambda e: place(e) >= last, what="the last event")
        self.assertEqual(again.events(), [e for e in events if place(e) > middle])
        self.assertEqual(self.history(last, "--kinds", "tasks"), [e for e in events if e["event"].startswith("task_")])
        of_task = Watch(self, "--from", "1", "--task", tasks[1])
        of_task.wait(self.finished(tasks[1]), what="its end")
        self.assertEqual([e["event"] for e in of_task.events()], ["task_submitted", "task_granted", "task_finished"])
        of_worker = Watch(self, "--from", "1", "--worker", "w1", "--kinds", "workers,tasks")
        of_worker.wait(self.finished(tasks[-1]), what="its last task")
        self.assertEqual(of_worker.events(), [e for e in events if e.get("worker_id") == "w1"])

        # From now on, and as text: the line begins with the position.
        text = Watch(self, "--kinds", "tasks", text=True)
        idle = Watch(self, "--kinds", "runs")
        done = self.submit("nobody:home", 1)

        def fresh():
            self.submit("nobody:home", 1)  # the first may have come before the watch
            return next((line for line in text.lines() if "task_submitted" in line), None)

        line = wait_until(fresh, what="a line")
        self.assertRegex(line, r"^\d+:\d+ +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} +task_submitted +task_id=\d+ ")
        self.assertGreaterEqual(int(line.split("task_id=")[1].split()[0]), done)
        self.assertEqual(idle.lines(), [])
        self.assertEqual(cluster.poctl("status")["tasks_running"], 0)

    def test_runs(self):
        cluster = self.start_cluster({"cp1": "aws"})
        self.start_worker("w1", {"echo:json": ECHO})
        document = self.folder / "pipeline.json"
        document.write_text(json.dumps({"name": "two", "start_node": "a", "steps": [
            {"name": "a", "capability": "echo:json", "next_node": "b"}, {"name": "b", "capability": "echo:json"}]}))
        cluster.poctl_text("pipeline", "define", str(document))
        run = cluster.poctl("pipeline", "run", "two")["id"]
        watch = Watch(self, "--from", "1", "--run", run, "--kinds", "runs")
        watch.wait(lambda e: e["event"] == "run_finished", what="the end of the run")
        told = [(e["event"], e.get("step"), e.get("state")) for e in watch.events()]
        self.assertEqual(told, [
            ("run_started", None, "running"), ("step_started", "a", "pending"), ("step_finished", "a", "succeeded"),
            ("step_started", "b", "pending"), ("step_finished", "b", "succeeded"), ("run_finished", None, "succeeded")])
        self.check_order(watch.events())
        named = Watch(self, "--from", "1", "--pipeline", "two")
        named.wait(lambda e: e["event"] == "run_finished", what="the end of the run")
        self.assertEqual(named.events()[0]["event"], "pipeline_defined")

    def test_history_that_is_gone(self):
        """A node that starts from its snapshot has the events since, and says so."""
        cluster = self.start_cluster({"cp1": "aws"}, options=("--snapshot-bytes", "64KiB", "--trailing-bytes", "4096"))
        first = self.submit("nobody:home", PAYLOAD)
        index = cluster.poctl("status")["commit_index"]
        for _ in range(10):
            self.submit("nobody:home", PAYLOAD)
        wait_until(lambda: cluster.poctl("status")["snapshot_index"] > index, what="a snapshot")
        cluster.nodes["cp1"].kill()
        cluster.nodes["cp1"].start()
        self.leader()
        watch = Watch(self, "--from", "1", "--kinds", "tasks")
        later = self.submit("nobody:home", 1)
        watch.wait(lambda e: e.get("task_id") == later, what="the later task")
        events = watch.events()
        self.assertEqual(events[0]["event"], "gone")
        self.assertGreater(events[0]["index"], index)
        self.assertEqual([e for e in events if e["event"] == "gone"], events[:1])
        self.assertNotIn(first, [e.get("task_id") for e in events])
        self.assertTrue(all(place(e) > place(events[0]) for e in events[1:]))
        self.check_order(events)
        # A position that was reached nowhere is no reason to wait for ever.
        with self.assertRaisesRegex(harness.PoctlError, "ahead of the log") as refused:
            cluster.poctl("watch", "--from", "1000000")
        self.assertEqual(refused.exception.code, 2)

    def test_ends(self):
        cluster = self.start_cluster({"cp1": "aws"})
        command = [str(harness.BUILD / "daemons" / "poctl"), "watch", "--from", "1", "--controllers", cluster.controllers()]
        reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        with reader.stdout, reader.stderr:
            self.assertIn(b"member_changed", reader.stdout.readline())
            reader.stdout.close()  # as head does

            def ended():
                self.submit("nobody:home", 1)
                return reader.poll() is not None

            wait_until(ended, what="the end of a watch that nobody reads")
            self.assertEqual((reader.returncode, reader.stderr.read()), (0, b""))
        for options, said in (("--kinds", "taks"), "no kind of event"), (("--resume", "17"), "no position"), \
                (("--resume", "1:2", "--from", "3"), "exclude each other"):
            with self.assertRaisesRegex(harness.PoctlError, said) as refused:
                cluster.poctl("watch", *options)
            self.assertEqual(refused.exception.code, 2)
        cluster.nodes["cp1"].kill()
        with self.assertRaises(harness.PoctlError) as refused:
            cluster.poctl("watch", timeout_s=1)
        self.assertEqual(refused.exception.code, 3)


if __name__ == "__main__":
    harness.main()
