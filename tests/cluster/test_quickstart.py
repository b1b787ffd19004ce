"""examples/energy/quickstart.py, as quickstart.sh runs it after the build: the story, its JSON, and nothing left behind."""

import json
import os
import re
import signal
import subprocess
import sys

import harness
from harness import BUILD, ENERGY, wait_until


def processes(folder):
    """Ids of all processes that were started with `folder` for their temporary files: daemons, poctl, steps, whatever."""
    found, mark = [], f"TMPDIR={folder}".encode()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/environ", "rb") as file:
                    if mark in file.read().split(b"\0"):
                        found.append(int(entry))
            except OSError:
                pass  # ended meanwhile, or not ours to look at
    return found


class Quickstart(harness.ClusterCase):
    def setUp(self):
        super().setUp()
        self.scratch = self.folder / "tmp"
        self.scratch.mkdir()

    def start(self, *options):
        """It runs in a temporary folder of its own, and prints to files."""
        with open(self.folder / "out.txt", "w") as out, open(self.folder / "err.txt", "w") as err:
            return subprocess.Popen([sys.executable, str(ENERGY / "quickstart.py"), "--build", str(BUILD), *options],
                                    stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                                    env=harness.environment({"TMPDIR": str(self.scratch)}))

    def printed(self):
        return (self.folder / "out.txt").read_text(), (self.folder / "err.txt").read_text()

    def running(self):
        return processes(self.scratch)

    def check_nothing_is_left(self):
        # A worker's guard process ends a moment after its worker.
        wait_until(lambda: not self.running(), timeout_s=5, what="no process left")
        self.assertEqual(list(self.scratch.iterdir()), [], "folders left behind")

    def play(self, *options):
        """The whole story: (exit code, what it printed, outcome)."""
        file = self.folder / "outcome.json"
        code = self.start("--json", str(file), *options).wait(150)
        self.check_nothing_is_left()
        return code, "".join(self.printed()), json.loads(file.read_text()) if file.exists() else None

    def test_the_run_survives_its_leader(self):
        code, printed, found = self.play()
        self.assertEqual(code, 0, printed)
        self.assertEqual(set(found), {"run_state", "first_leader", "second_leader", "failover_ms", "steps", "report"})
        self.assertEqual(found["run_state"], "succeeded")
        self.assertNotEqual(found["first_leader"], found["second_leader"])
        self.assertGreater(found["failover_ms"], 0)
        self.assertEqual([step["step"] for step in found["steps"]], ["ingest", "clean", "trend", "heating", "report"])
        for step in found["steps"]:
            self.assertEqual(sorted(step), ["attempts", "ms", "step", "worker", "zone"])
            self.assertIn(step["zone"], step["worker"])
        report = found["report"]
        self.assertEqual(set(report), {"renewables_share_2017", "forecast_2018", "heating_degree_days"})
        self.assertEqual(set(report["heating_degree_days"]), {"total", "by_month"})
        self.assertEqual(len(report["heating_degree_days"]["by_month"]), 12)
        self.assertEqual(report["renewables_share_2017"], 0.3884)
        self.assertEqual(report["forecast_2018"],
                         {"Fossil Fuels": 33381.471, "Nuclear Energy": 5084.404, "Renewables": 22669.213})
        self.assertEqual(report["heating_degree_days"]["total"], 2632.671)
        self.assertEqual(report["heating_degree_days"]["by_month"]["2010-12"], 411.05)
        for text in (found["first_leader"], "SIGKILL", f"{found['failover_ms']} ms", "0.3884", "22669.213", "2632.671"):
            self.assertIn(text, printed)

    def test_spoilt_input_fails_and_is_shown(self):
        lines = (ENERGY / "data" / "iowa-electricity.csv").read_text().splitlines()
        lines[20] = lines[20].rsplit(",", 1)[0] + ",lots"
        spoilt = self.folder / "spoilt.csv"
        spoilt.write_text("\n".join(lines))
        code, printed, found = self.play("--input", str(spoilt))
        self.assertEqual(code, 1, printed)
        self.assertEqual((found["run_state"], found["report"]), ("failed", None))
        self.assertIn("spoilt.csv: row 21, column 3 (net_generation): 'lots'", found["error"])
        self.assertEqual([(s["step"], s["attempts"]) for s in found["steps"]], [("ingest", 1), ("clean", 1)])
        self.assertIn("row 21, column 3", printed)

    def test_an_impatient_end_leaves_nothing(self):
        """Control-C goes to all of the terminal's foreground group, and people press it more than once."""
        story = self.start()
        wait_until(lambda: "online" in self.printed()[0] or story.poll() is not None, what="the workers online")
        self.assertGreater(len(self.running()), 7)
        for _ in range(3):
            os.killpg(story.pid, signal.SIGINT)
        self.assertEqual(story.wait(30), 130)
        self.assertIn("stopped by SIGINT", self.printed()[1])
        self.check_nothing_is_left()

    def test_keep_leaves_a_cluster_that_answers_until_it_is_stopped(self):
        self.assertEqual(self.start("--keep").wait(150), 0)
        said = self.printed()[0]
        ask, stop = (re.search(rf"^  {word}: +(.*)$", said, re.MULTILINE)[1].split() for word in ("ask", "stop"))
        kept = [int(pid) for pid in stop[1:]]
        try:
            self.assertLessEqual(set(kept), set(self.running()))
            self.assertEqual(len(kept), 6)  # two control nodes and four workers; the first leader is dead
            answer = subprocess.run(ask, capture_output=True, text=True, timeout=30, env=harness.environment())
            self.assertIn("4 online", answer.stdout, answer.stderr)
        finally:
            # as the reader's shell does it: a bare system has no kill but the shell's own
            subprocess.run(["bash", "-c", " ".join(stop)], check=True)
        wait_until(lambda: not self.running(), what="the end of what was kept")

    def test_unknown_flags_are_refused_before_anything_is_installed_or_built(self):
        script = str(harness.ROOT / "examples" / "quickstart.sh")
        for arguments in (["--kep"], ["--json"], ["--input", "/nowhere.csv"], ["extra"]):
            with self.subTest(arguments):
                ran = subprocess.run(["bash", script, *arguments], capture_output=True, text=True, timeout=20)
                self.assertEqual(ran.returncode, 2)
                self.assertIn(arguments[0], ran.stderr)


if __name__ == "__main__":
    harness.main()
