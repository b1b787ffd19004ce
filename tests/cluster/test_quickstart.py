"""examples/energy/quickstart.py, as quickstart.sh runs it after the build: the story, its JSON, and nothing left behind."""

import json
import os
import subprocess
import sys

import harness
from harness import BUILD, ENERGY


def processes():
    """Ids of all processes whose program is one of this build's daemons."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.readlink(f"/proc/{entry}/exe").startswith(str(BUILD / "daemons")):
                    found.add(int(entry))
            except OSError:
                pass  # ended meanwhile, or not ours to look at
    return found


class Quickstart(harness.ClusterCase):
    def play(self, *options):
        """Run it in a temporary folder of its own; (process result, outcome)."""
        scratch = self.folder / "tmp"
        scratch.mkdir()
        out = self.folder / "outcome.json"
        ran = subprocess.run([sys.executable, str(ENERGY / "quickstart.py"), "--build", str(BUILD), "--json", str(out), *options],
                             capture_output=True, text=True, timeout=150, env=harness.environment({"TMPDIR": str(scratch)}))
        left = [pid for pid in processes() if self.in_folder(pid, scratch)]
        self.assertEqual(left, [], "processes left running")
        self.assertEqual(list(scratch.iterdir()), [], "folders left behind")
        return ran, json.loads(out.read_text()) if out.exists() else None

    def in_folder(self, pid, folder):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                return str(folder) in file.read()
        except OSError:
            return False

    def test_the_run_survives_its_leader(self):
        ran, found = self.play()
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        self.assertEqual(found["run_state"], "succeeded")
        self.assertNotEqual(found["first_leader"], found["second_leader"])
        self.assertGreater(found["failover_ms"], 0)
        self.assertEqual([step["step"] for step in found["steps"]], ["ingest", "clean", "trend", "heating", "report"])
        for step in found["steps"]:
            self.assertEqual(sorted(step), ["attempts", "ms", "step", "worker", "zone"])
            self.assertIn(step["zone"], step["worker"])
        report = found["report"]
        self.assertEqual(report["renewables_share_2017"], 0.3884)
        self.assertEqual(report["forecast_2018"],
                         {"Fossil Fuels": 33381.471, "Nuclear Energy": 5084.404, "Renewables": 22669.213})
        self.assertEqual(report["heating_degree_days"]["total"], 2632.671)
        self.assertEqual(report["heating_degree_days"]["by_month"]["2010-12"], 411.05)
        for text in (found["first_leader"], "SIGKILL", f"{found['failover_ms']} ms", "0.3884", "22669.213", "2632.671"):
            self.assertIn(text, ran.stdout)

    def test_spoilt_input_fails_and_is_shown(self):
        lines = (ENERGY / "data" / "iowa-electricity.csv").read_text().splitlines()
        lines[20] = lines[20].rsplit(",", 1)[0] + ",lots"
        spoilt = self.folder / "spoilt.csv"
        spoilt.write_text("\n".join(lines))
        ran, found = self.play("--input", str(spoilt))
        self.assertEqual(ran.returncode, 1, ran.stdout + ran.stderr)
        self.assertEqual((found["run_state"], found["report"]), ("failed", None))
        self.assertIn("spoilt.csv: row 21, column 3 (net_generation): 'lots'", found["error"])
        self.assertEqual([(s["step"], s["attempts"]) for s in found["steps"]], [("ingest", 1), ("clean", 1)])
        self.assertIn("row 21, column 3", ran.stdout)

    def test_unknown_flags_are_refused_before_anything_is_installed_or_built(self):
        script = str(harness.ROOT / "examples" / "quickstart.sh")
        for arguments in (["--kep"], ["--json"], ["--input", "/nowhere.csv"], ["extra"]):
            with self.subTest(arguments):
                ran = subprocess.run(["bash", script, *arguments], capture_output=True, text=True, timeout=20)
                self.assertEqual(ran.returncode, 2)
                self.assertIn(arguments[0], ran.stderr)


if __name__ == "__main__":
    harness.main()
