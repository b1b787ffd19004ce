"""po-controld and po-workerd before they start anything: every wrong option, key, variable and file is refused with its place."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

DAEMONS = pathlib.Path(os.environ["BUILD_ROOT"]) / "daemons"
TABLES = pathlib.Path(__file__).resolve().parents[2] / "daemons"


def run(program, *args, env=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PO_")}
    return subprocess.run([DAEMONS / program, *args], capture_output=True, text=True, timeout=60, env={**clean, **(env or {})})


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def file(self, name, content):
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    def accepted(self, *args, **kwargs):
        ran = run(*args, **kwargs)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, "", ""))

    def refused(self, program, *args, **kwargs):
        ran = run(program, *args, **kwargs)
        self.assertEqual((ran.returncode, ran.stdout), (2, ""), ran)
        lines = ran.stderr.splitlines()
        self.assertTrue(all(line.startswith(program + ": ") for line in lines), lines)
        return [line.removeprefix(program + ": ") for line in lines]


class Controld(Case):
    BASE = ("--name=cp1", "--data-dir=/nonexistent/data", "--check-config")

    def test_good_settings_from_every_source(self):
        config = self.file("c.json", {"zone": "aws", "snapshot_bytes": "64KiB", "bootstrap": True,
                                      "initial_members": ["cp1=127.0.0.1:7101", "cp2=[::1]:7102"]})
        self.accepted("po-controld", *self.BASE, "--config", config, "--election-ms", "50",
                      env={"PO_LISTEN": "127.0.0.1:7101", "PO_WORKER_LISTEN": "127.0.0.1:0", "PO_INSECURE": "1"})

    def test_nothing_is_created(self):
        self.accepted("po-controld", "--name=cp1", f"--data-dir={self.folder}/data", "--check-config")
        self.assertFalse((self.folder / "data").exists())

    def test_typos(self):
        config = self.file("c.json", '{\n  "elction_ms": 100\n}')
        self.assertEqual(self.refused("po-controld", *self.BASE, "--bootsrap", "--lisen", "127.0.0.1:1", "--config", config,
                                      env={"PO_BOOSTRAP": "1", "PO_CONTROLLERS": "another program's"}), [
            "argument 4, --bootsrap: unknown flag; did you mean --bootstrap?",
            "argument 5, --lisen: unknown flag; did you mean --listen?",
            "environment variable PO_BOOSTRAP: unknown variable; did you mean PO_BOOTSTRAP?",
            f'{config}:2:3: /elction_ms: unknown key "elction_ms"; did you mean "election_ms"?',
        ])

    def test_every_option_has_a_flag_a_key_and_a_variable(self):
        names = re.findall(r'^    \{"(\w+)",', (TABLES / "po-controld" / "settings.c").read_text(), re.M)
        self.assertGreater(len(names), 15)
        page = run("po-controld", "--help").stdout
        for name in set(names) - {"check_config", "check_dir"}:
            self.assertIn("--" + name.replace("_", "-"), page)
            self.assertIn(f"[PO_{name.upper()}]", page)
            config = self.file("c.json", {name: {}})  # known, but of no type that any option has
            self.assertRegex(self.refused("po-controld", *self.BASE, "--config", config)[0], rf"c\.json:1:2: /{name}: must be ")

    def test_what_only_together_is_wrong(self):
        said = self.refused("po-controld", *self.BASE, "--election-ms=150", "--heartbeat-ms=100", "--segment-bytes=1048577",
                            "--initial-members=cp2=h:1,cp3=h:1,cp2=h:2", "--worker-advertise=h:1", "--snapshot-bytes=64KiB",
                            "--trailing-bytes=1MiB")
        for expected in ("must be at most a third of --election-ms, 50", "must be a multiple of 4096",
                         'gives h:1 to both "cp2" and "cp3"', 'names "cp2" twice', 'does not name this node, "cp1"',
                         "--listen: is missing", "needs --worker-listen", "at most four times --snapshot-bytes, 262144"):
            self.assertEqual(sum(expected in line for line in said), 1, (expected, said))
        self.assertEqual(len(said), 8)
        self.accepted("po-controld", *self.BASE, "--election-ms=150", "--snapshot-bytes=64KiB")  # defaults give way

    def test_config_files_that_cannot_be_read(self):
        self.assertEqual(self.refused("po-controld", *self.BASE, "--config=/nonexistent/c.json"),
                         ["/nonexistent/c.json: cannot be opened: No such file or directory"])
        self.assertIn("not valid JSON", self.refused("po-controld", *self.BASE, "--config", self.file("c.json", "{]"))[0])
        self.assertIn("must be an object", self.refused("po-controld", *self.BASE, "--config", self.file("c.json", "[]"))[0])
        self.assertIn("duplicate", self.refused("po-controld", *self.BASE, "--config",
                                                self.file("c.json", '{"zone": "a", "zone": "b"}'))[0])

    def test_help_and_version(self):
        for program in ("po-controld", "po-workerd"):
            page = run(program, "--help")
            self.assertEqual((page.returncode, page.stderr), (0, ""))
            self.assertIn("Exit status:", page.stdout)
            self.assertRegex(run(program, "--version").stdout, rf"^{program} \d+\.\d+\.\d+\n$")


class Workerd(Case):
    BASE = ("--id=w1", "--controllers=127.0.0.1:1,localhost:2", "--check-config")

    def capability(self, **more):
        return {"name": "test:echo", "command": [sys.executable, "-c", "pass"], **more}

    def test_a_good_file(self):
        (self.folder / "steps").mkdir()
        path = self.file("w.json", {"labels": {"disk": "ssd"}, "capabilities": [
            self.capability(version="2.0.0-rc.1", cwd="steps", env={"A": "b"}, timeout_ms=100, max_concurrency=1024,
                            requires_gpu=True, final_exit_codes=[1, 255], input_schema={}, output_schema={"type": "string"})]})
        self.accepted("po-workerd", *self.BASE, "--capabilities", path)
        self.accepted("po-workerd", "--check-config", env={"PO_ID": "w1", "PO_CONTROLLERS": "h:1", "PO_CAPABILITIES": path})

    def test_options_and_file_are_refused_in_one_go(self):
        path = self.file("w.json", '{"capabilities": [\n {"name": "echo", "command": ["no-such-program"]},\n {"nam": "a:b"}]}')
        said = self.refused("po-workerd", "--id=w 1", "--capabilities", path, "--drain", "5", env={"PATH": "/usr/bin"})
        self.assertEqual(said, [
            "argument 1, --id: \"w 1\" is not a name; use 1 to 128 letters, digits, '.', '_' and '-'",
            "argument 4, --drain: unknown flag; did you mean --drain-ms?",
            f'{path}:2:31: /capabilities/0/command/0: no program "no-such-program" is in PATH (/usr/bin)',
            f'{path}:2:3: /capabilities/0/name: "echo" is not a capability; write "verb:name", each part of a-z, 0-9, \'.\', '
            "'_' and '-'",
            f'{path}:3:3: /capabilities/1/nam: unknown key "nam"; did you mean "name"?',
            f'{path}:3:2: /capabilities/1: the key "name" is missing; it must be a string',
            f'{path}:3:2: /capabilities/1: the key "command" is missing; it must be an array',
        ])

    def test_standalone(self):
        path = self.file("w.json", {"capabilities": [self.capability()]})
        self.accepted("po-workerd", "--id=w1", "--check-config", "--capabilities", path)
        self.assertEqual(self.refused("po-workerd", "--id=w1", "--check-config", "--capabilities", path, "--standalone", "never"),
                         ["--controllers: is missing; --standalone never needs it"])
        self.assertEqual(self.refused("po-workerd", *self.BASE, "--capabilities", path, "--standalone=often"),
                         ['argument 6, --standalone: "often" is not one of auto|never|always'])

    def test_resources(self):
        path = self.file("w.json", {"capabilities": [self.capability()], "slots": 3, "resources": {"cpus": 2.5, "memory": "8GiB"}})
        self.accepted("po-workerd", *self.BASE, "--capabilities", path)
        path = self.file("w.json", {"capabilities": [self.capability()], "resources": {"memory": "8 GB"}})
        self.assertIn("/resources/memory: must be a whole number from 1", self.refused("po-workerd", *self.BASE, "--capabilities", path)[0])

    def test_no_capabilities(self):
        self.assertIn("/capabilities: is empty", self.refused("po-workerd", *self.BASE, "--capabilities",
                                                              self.file("w.json", {"capabilities": []}))[0])
        self.assertIn("cannot be opened", self.refused("po-workerd", *self.BASE, "--capabilities", "/nonexistent")[0])


if __name__ == "__main__":
    unittest.main()
