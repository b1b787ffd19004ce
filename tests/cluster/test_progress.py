"""Commands that tell how far they are, die, and go on where they were."""

import harness

# Ten parts, each noted as soon as it is done. The first attempt dies behind the fourth; GATE lets it.
PARTS = """
from=0; [ -s "$PO_CHECKPOINT" ] && from=$(cat "$PO_CHECKPOINT")
part=$from
while [ "$part" -lt 10 ]; do
    part=$((part + 1)); echo "$PO_ATTEMPT $part" >>"$DONE"
    echo "{\\"progress\\": $((part / 10)).$((part % 10)), \\"checkpoint\\": $part}" >&"$PO_PROGRESS_FD"
    if [ "$PO_ATTEMPT $part" = "1 4" ]; then until [ -e "$GATE" ]; do sleep 0.02; done; kill -KILL $$; fi
done
echo "{\\"from\\": $from}"
"""


class Progress(harness.ClusterCase):
    def setUp(self):
        super().setUp()
        self.gate, self.done = self.folder / "gate", self.folder / "done"
        self.start_cluster()
        self.start_worker("w1", {"do:parts": {"command": ["sh", "-c", PARTS], "env": {"GATE": str(self.gate), "DONE": str(self.done)}},
                                 "do:talk": ["sh", "-c", "cat >&$PO_PROGRESS_FD; echo 1"]})

    def check_parts(self, task):
        self.assertEqual((task["state"], task["attempts"], task["result"]), ("succeeded", 2, {"from": 4}), task)
        self.assertEqual(self.done.read_text().split("\n")[:-1], [f"{1 if part <= 4 else 2} {part}" for part in range(1, 11)])

    def test_a_command_killed_at_40_percent_goes_on_at_40_percent(self):
        task = self.submit("do:parts")

        def told():
            shown = self.task(task)
            return shown if shown["progress"] == 400 else None

        self.assertEqual(harness.wait_until(told, what="40 %")["checkpoint_bytes"], 1)
        self.assertRegex(self.cluster.poctl_text("task", "show", str(task)), r"(?m)^progress: 40\.0 %\ncheckpoint: 1 bytes$")
        self.gate.touch()
        self.check_parts(self.wait_task(task, "succeeded", "failed"))

    def test_it_may_die_right_behind_its_last_word(self):
        self.gate.touch()
        self.check_parts(self.wait_task(self.submit("do:parts"), "succeeded", "failed"))

    def test_the_next_attempt_may_be_another_workers(self):
        task = self.submit("do:parts")
        harness.wait_until(lambda: self.task(task)["progress"] == 400, what="40 %")
        self.cluster.workers["w1"].kill()
        self.start_worker("w2", {"do:parts": {"command": ["sh", "-c", PARTS], "env": {"GATE": str(self.gate), "DONE": str(self.done)}}})
        ended = self.wait_task(task, "succeeded", "failed")
        self.check_parts(ended)
        self.assertEqual(ended["worker_id"], "w2")

    def test_nonsense_is_logged_once_and_ignored(self):
        task = self.wait_task(self.submit("do:talk", ["no object"]), "succeeded", "failed")
        self.assertEqual((task["state"], task["attempts"], task["progress"]), ("succeeded", 1, None))
        logged = [line for line in self.cluster.workers["w1"].log_text().splitlines() if "workerd.progress" in line]
        self.assertEqual(len(logged), 1, logged)
        self.assertIn("it has no line break at its end", logged[0])


if __name__ == "__main__":
    harness.main()
