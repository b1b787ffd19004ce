"""What goes wrong at the worst moment: leaders that die between two steps, workers that come back from the dead."""

import collections
import json
import random
import signal
import subprocess

import harness
from harness import PoctlError, environment, wait_until

POCTL = str(harness.BUILD / "daemons" / "poctl")

# Notes that a step begins, waits while HOLD is there, and results in one more than the step before.
COUNT = """
read -r line
while [ -e "$HOLD" ]; do sleep 0.01; done
step=${line#*'"step":"'}; n=${line##*'"input":'}
echo "${step%%'"'*} $PO_ATTEMPT" >>"$BEGUN"
echo $((${n%%[!0-9]*} + 1))
"""


class LeadersDie(harness.ClusterCase):
    STEPS, KILLS = 200, 12

    def define_chain(self):
        names = [f"s{i}" for i in range(self.STEPS)]
        steps = [{"name": name, "capability": "count:up", "attempts_max": 10} for name in names]
        for step, following in zip(steps, names[1:]):
            step["next_node"] = following
        path = self.folder / "chain.json"
        path.write_text(json.dumps({"name": "chain", "start_node": "s0", "steps": steps}))
        self.cluster.poctl("pipeline", "define", str(path))
        return names

    def lines(self):
        return self.begun.read_text().splitlines() if self.begun.exists() else []

    def test_every_step_has_one_result_and_the_next_begins_with_it(self):
        """The leader is killed while steps end every few ms: before, in, or behind the commit that ends one and begins the next.
        That there is nothing between the two is seen in the log of a node that died."""
        cluster = self.start_cluster()
        self.begun, hold = self.folder / "begun", self.folder / "hold"
        self.start_worker("w1", {"count:up": {"command": ["sh", "-c", COUNT], "env": {"BEGUN": str(self.begun), "HOLD": str(hold)}}})
        names = self.define_chain()
        leader = self.leader()
        run = cluster.poctl("pipeline", "run", "chain")["id"]
        moments = random.Random(4)
        for _ in range(self.KILLS):
            upto = len(self.lines()) + moments.randint(1, 5)
            hold.unlink(missing_ok=True)
            wait_until(lambda: len(self.lines()) >= upto, what=f"{upto} steps begun")
            cluster.nodes[leader].kill()
            hold.touch()  # there is to be something left for the next leader
            lost, leader = leader, self.leader(*self.followers(leader))
            cluster.nodes[lost].start()
        hold.unlink()
        ended = cluster.poctl("pipeline", "wait", str(run), timeout_s=60)
        self.assertEqual((ended["state"], ended["result"]), ("succeeded", self.STEPS))
        self.assertEqual([(step["name"], step["state"]) for step in ended["steps"]], [(name, "succeeded") for name in names])
        order = [line.split()[0] for line in self.lines()]
        self.assertEqual(list(dict.fromkeys(order)), names, "no step begins before the one before it has a result")
        self.assertEqual(sorted(order, key=names.index), order, "and none begins again behind it")
        self.check_log(run, lost)

    def check_log(self, run, lost):
        self.cluster.stop()
        ran = subprocess.run([POCTL, "replay", "events", "--data-dir", str(self.cluster.data_dir(lost)), "--run", str(run), "-o", "json"],
                             capture_output=True, text=True, timeout=60, env=environment())
        self.assertEqual(ran.returncode, 0, ran.stderr)
        at = collections.defaultdict(list)  # {event: [(index, task)]}
        for line in ran.stdout.splitlines():
            event = json.loads(line)
            at[event["event"]].append((event["index"], event.get("task_id")))
        done, submitted = at["task_succeeded"], at["task_submitted"]
        self.assertEqual(len(done), self.STEPS)
        self.assertEqual([task for _, task in done], [task for _, task in submitted])
        self.assertEqual(len({task for _, task in done}), self.STEPS, "one accepted result for each")
        first_grant = {}
        for index, task in at["task_granted"]:
            first_grant.setdefault(task, index)
        for (ended, _), (begun, task) in zip(done, submitted[1:]):
            self.assertEqual((begun, first_grant[task]), (ended, ended))
        self.assertEqual([index for index, _ in at["run_succeeded"]], [done[-1][0]])


# Leaves a checkpoint and its token at its begin and, once GATE is there, leaves another one and ends.
ZOMBIE = """
leave() { echo "{\\"progress\\": $1, \\"checkpoint\\": \\"$PO_WORKER_ID $2\\"}" >&"$PO_PROGRESS_FD"; }
leave 0.1 began
until [ -e "$GATE" ]; do sleep 0.02; done
leave 0.9 "is about to end"
until [ -e "$END" ]; do sleep 0.02; done
echo "\\"$PO_WORKER_ID\\""
"""


class TheDeadReturn(harness.ClusterCase):
    def fence(self, task, token):
        """Exit code of poctl fence."""
        try:
            self.cluster.poctl("fence", str(task), "--token", str(token))
            return 0
        except PoctlError as error:
            return error.code

    def start_zombie(self, name):
        gates = {what: self.folder / f"{name}-{what}" for what in ("gate", "end")}
        daemon = self.start_worker(name, {"be:slow": {"command": ["sh", "-c", ZOMBIE],
                                                      "env": {"GATE": str(gates["gate"]), "END": str(gates["end"])}}})
        return daemon, gates

    def wait_progress(self, task, progress):
        def told():
            shown = self.task(task)
            return shown if shown["progress"] == progress else None

        return wait_until(told, what=f"progress {progress} of task {task}")

    def test_what_a_zombie_brings_is_refused(self):
        self.start_cluster()
        zombie, its = self.start_zombie("zombie")
        task = self.submit("be:slow")
        first = self.wait_progress(task, 100)
        self.assertEqual(self.fence(task, first["token"]), 0)
        heir, heirs = self.start_zombie("heir")
        zombie.signal(signal.SIGSTOP)
        self.wait_worker("zombie", "offline")
        # Only the daemon is frozen: its command goes on, tells its progress, and comes to its end.
        its["gate"].touch()
        its["end"].touch()
        second = self.wait_progress(task, 100)
        self.assertEqual((second["worker_id"], second["attempts"]), ("heir", 2))
        self.assertGreater(second["token"], first["token"])
        self.assertEqual((self.fence(task, first["token"]), self.fence(task, second["token"])), (1, 0))
        heirs["gate"].touch()
        held = self.wait_progress(task, 900)
        zombie.signal(signal.SIGCONT)
        self.wait_worker("zombie", "online")
        wait_until(lambda: f"task {task} attempt 1 " in zombie.log_text(), what="the end of the zombie's attempt")
        self.assertEqual(self.run_task("be:slow"), "zombie")  # so all that it had to say before has been said
        now = self.task(task)
        same = ("state", "worker_id", "token", "attempts", "progress", "checkpoint_bytes", "result")
        self.assertEqual({key: now[key] for key in same}, {key: held[key] for key in same})
        self.assertEqual(now["state"], "running")
        self.assertEqual((self.fence(task, first["token"]), self.fence(task, second["token"])), (1, 0))
        heirs["end"].touch()
        done = self.wait_task(task, "succeeded", "failed")
        self.assertEqual((done["result"], done["token"], done["lost_attempts"]), ("heir", second["token"], 1))
        self.assertEqual(self.fence(task, second["token"]), 1, "it has ended: nobody may act for it")


if __name__ == "__main__":
    harness.main()
