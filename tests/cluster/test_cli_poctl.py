"""poctl without a cluster: help, usage, documents, unreachable nodes. Each error says where, what and what to do."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

POCTL = pathlib.Path(os.environ["BUILD_ROOT"]) / "daemons" / "poctl"
ENERGY = pathlib.Path(__file__).resolve().parents[2] / "examples" / "energy" / "pipeline.json"
NOBODY = "127.0.0.1:1"  # a reserved port: refused at once


def poctl(*args, env=None, stdin=""):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PO_")}
    return subprocess.run([POCTL, *args], input=stdin, capture_output=True, text=True, timeout=60, env={**clean, **(env or {})})


class Usage(unittest.TestCase):
    def refused(self, *args, env=None, stdin=""):
        ran = poctl(*args, env=env, stdin=stdin)
        self.assertEqual(ran.returncode, 2, ran)
        self.assertEqual(ran.stdout, "")
        return ran.stderr

    def test_help_and_version(self):
        page = poctl("--help")
        self.assertEqual((page.returncode, page.stderr), (0, ""))
        commands = [line[2:31].split("  ")[0].split() for line in page.stdout.splitlines() if line.startswith("  ") and
                    line[2].islower()]
        commands = [[word for word in words if word.islower()] for words in commands]
        self.assertIn(["task", "submit"], commands)
        self.assertIn(["pipeline", "wait"], commands)
        for group in {words[0] for words in commands if len(words) == 2}:  # and no command is left out
            said = poctl(group, "frobnicate").stderr
            if " has the commands " not in said:
                continue
            for verb in said.split(" has the commands ")[1].strip().split(", "):
                self.assertIn([group, verb], commands)
        for words in commands:  # whatever the page names has a page of its own
            ran = poctl(*words, "--help")
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            self.assertTrue(ran.stdout.startswith("Usage: poctl " + " ".join(words)), ran.stdout)
        self.assertRegex(poctl("--version").stdout, r"^poctl \d+\.\d+\.\d+\n$")

    def test_unknown_commands(self):
        self.assertIn("no command", self.refused())
        self.assertEqual(self.refused("stauts"), "poctl: stauts: unknown command; did you mean status?\n")
        self.assertIn("did you mean pipeline validate?", self.refused("pipeline", "validat", "x"))
        self.assertIn("task has the commands submit, show, wait, cancel, explain, retry, list", self.refused("task", "frobnicate"))

    def test_all_problems_of_a_command_line_come_at_once(self):
        said = self.refused("task", "list", "--key", "k", "--statee", "running", "--controllers", "here", "--limit=0",
                            env={"PO_CONTROLERS": "x", "PO_DATA_DIR": "ignored: po-controld's"})
        self.assertEqual(said.splitlines(), [
            "poctl: argument 5, --statee: unknown flag; did you mean --state?",
            'poctl: argument 7, --controllers: "here" is not an address; write host:port, as 127.0.0.1:7101, '
            "cp1.example.org:7101 or [::1]:7101, separated by commas",
            'poctl: argument 9, --limit: "0" is not a whole number from 1 to 1000',
            "poctl: environment variable PO_CONTROLERS: unknown variable; did you mean PO_CONTROLLERS?",
            "poctl: argument 3, --key: is no option of poctl task list; poctl task list --help lists them",
        ])

    def test_arguments(self):
        where = ("--controllers", NOBODY)
        self.assertIn("ID is missing; write poctl task show ID", self.refused("task", "show", *where))
        self.assertIn('"7" is one argument too many', self.refused("status", "7", *where))
        self.assertIn('"x7" is not an id', self.refused("task", "show", "x7", *where))
        self.assertIn('"0" is not an id', self.refused("pipeline", "wait", "0", *where))
        self.assertIn("--controllers: is missing; give the flag or PO_CONTROLLERS", self.refused("status"))
        self.assertIn("is given twice", self.refused("status", *where, *where))
        self.assertIn("exclude each other", self.refused("task", "submit", "a:b", "--input=1", "--input-file=x", *where))
        self.assertIn("--input:1:1: not valid JSON", self.refused("task", "submit", "a:b", "--input={", *where))
        self.assertIn("/nonexistent: cannot be opened", self.refused("task", "submit", "a:b", "--input-file=/nonexistent", *where))
        self.assertIn("-:1:4: not valid JSON",
                      self.refused("pipeline", "run", "p", "--params-file", "-", *where, stdin="oops"))
        self.assertIn("at most 64 are allowed", self.refused("task", "submit", "a:b", "--key", "k" * 65, *where))

    def test_a_form_of_graph_may_be_left_out(self):
        for where in (("--graph", "--controllers", NOBODY), ("--controllers", NOBODY, "--graph")):
            self.assertEqual(poctl("pipeline", "show", "p", "--timeout", "300ms", *where).returncode, 3)
        self.assertIn('"png" is not one of text|dot|svg', self.refused("pipeline", "show", "p", "--controllers", NOBODY, "--graph", "png"))

    def test_unreachable(self):
        ran = poctl("status", "--controllers", NOBODY, "--timeout", "300ms")
        self.assertEqual((ran.returncode, ran.stdout), (3, ""))
        self.assertIn("PO_EUNREACHABLE", ran.stderr)
        self.assertIn("check --controllers (PO_CONTROLLERS)", ran.stderr)
        ran = poctl("workers", env={"PO_CONTROLLERS": NOBODY, "PO_TIMEOUT": "300ms"})
        self.assertEqual(ran.returncode, 3)


class Validate(unittest.TestCase):
    def test_a_good_pipeline(self):
        ran = poctl("pipeline", "validate", ENERGY)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, f"{ENERGY}: valid\n", ""))
        ran = poctl("pipeline", "validate", "-", "-o", "json", stdin=ENERGY.read_text())
        self.assertEqual((ran.returncode, json.loads(ran.stdout)), (0, {"valid": True, "problems": []}))

    def test_every_problem_is_listed(self):
        document = json.loads(ENERGY.read_text())
        document["steps"][1]["next_node"] = "trnd"
        document["steps"][0]["capabilty"] = document["steps"][0].pop("capability")
        document["steps"][3]["timeout_ms"] = "long"
        document["start_node"] = ""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(document, file, indent=1)
            file.flush()
            for command in ("validate", "define"):
                ran = poctl("pipeline", command, file.name, "--controllers", NOBODY)
                self.assertEqual((ran.returncode, ran.stdout), (2, ""))
                lines = ran.stderr.splitlines()
                self.assertTrue(all(line.startswith(file.name + ":") for line in lines), lines)
                for expected in ("/start_node: is empty", '/steps/0/capabilty: unknown key "capabilty"; did you mean "capability"?',
                                 '/steps/0: the key "capability" is missing', '/steps/1/next_node: no step is named "trnd"; did '
                                 'you mean "trend"?', "/steps/3/timeout_ms: must be an integer, not a string"):
                    self.assertEqual(sum(expected in line for line in lines), 1, (expected, lines))
                self.assertEqual(len(lines), 5)

    def test_problems_as_json(self):
        ran = poctl("pipeline", "validate", "-", "-o", "json", stdin='{"steps": []}')
        self.assertEqual((ran.returncode, ran.stderr), (2, ""))
        self.assertEqual(json.loads(ran.stdout), {"valid": False, "problems": [
            "(standard input):1:2: /steps: is empty; it needs at least one entry",
            '(standard input):1:1: the key "name" is missing; it must be a string']})

    def test_an_empty_file(self):
        for command in ("validate", "define"):
            ran = poctl("pipeline", command, "-", "--controllers", NOBODY, stdin="")
            self.assertEqual((ran.returncode, ran.stderr),
                             (2, "(standard input):1:1: not valid JSON: the document is empty\n"))

    def test_syntax(self):
        ran = poctl("pipeline", "validate", "-", stdin='{\n "name": oops\n}')
        self.assertEqual(ran.returncode, 2)
        self.assertTrue(ran.stderr.startswith("(standard input):2:"), ran.stderr)


class Simulate(unittest.TestCase):
    def test_a_seed_tells_one_story(self):
        first, again, other = (poctl("sim", "--pipeline", ENERGY, "--seed", seed, "--faults", "chaos", "-o", "json")
                               for seed in ("3", "3", "4"))
        self.assertEqual((first.returncode, first.stderr), (0, ""))
        self.assertEqual(first.stdout, again.stdout)
        report = json.loads(first.stdout)
        self.assertTrue(report["kept"])
        self.assertEqual([run["state"] for run in report["runs"]], ["succeeded"])
        self.assertNotEqual(report["trace"], json.loads(other.stdout)["trace"])

    def test_a_table(self):
        ran = poctl("sim", "--pipeline", ENERGY, "--runs", "2")
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertTrue(ran.stdout.startswith("RUN  STATE"), ran.stdout)
        self.assertIn("nothing was lost", ran.stdout)

    def test_workers_of_ones_own(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write('[{"id": "w", "capabilities": [{"name": "do:it", "max_mss": 1}]}]')
            file.flush()
            ran = poctl("sim", "--pipeline", ENERGY, "--workers", file.name)
            self.assertEqual((ran.returncode, ran.stdout), (2, ""))
            self.assertIn('did you mean "max_ms"?', ran.stderr)

    def test_usage(self):
        for args, expected in ((("sim",), "--pipeline is missing"),
                               (("sim", "--pipeline", ENERGY, "--faults", "storm"), "three-clouds"),
                               (("sim", "--pipeline", "/nowhere"), "/nowhere")):
            ran = poctl(*args)
            self.assertEqual((ran.returncode, ran.stdout), (2, ""), ran)
            self.assertIn(expected, ran.stderr)


if __name__ == "__main__":
    unittest.main()
