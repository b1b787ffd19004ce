"""Pictures of pipelines: as a cluster tells them, as its runs go, and as programs read them."""

import json
import shutil
import subprocess
import xml.etree.ElementTree

import harness
from harness import ECHO, ClusterCase, PoctlError, environment, wait_until

SVG = "{http://www.w3.org/2000/svg}"
FINAL = {"command": ["sh", "-c", "cat >/dev/null; exit 65"]}


def well_formed(test, text, steps):
    """An SVG with nothing from outside and a box for each step; their titles."""
    root = xml.etree.ElementTree.fromstring(text)
    test.assertEqual(root.tag, SVG + "svg")
    test.assertEqual(len(root.get("viewBox").split()), 4)
    test.assertEqual(len(root.findall(f"{SVG}g/{SVG}rect")), steps)
    for element in root.iter():
        for name, value in element.attrib.items():
            test.assertFalse(name.endswith("href") or "://" in value, (name, value))
    return [title.text for title in root.findall(f"{SVG}g/{SVG}title")]


class Graph(ClusterCase):
    def show(self, what, form, *options):
        return self.cluster.poctl_text("pipeline", "show", str(what), "--graph", form, *options)

    def define(self, name, steps):
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps({"name": name, "start_node": steps[0]["name"], "steps": steps}))
        self.cluster.poctl("pipeline", "define", str(path))

    def test_definitions_and_runs(self):
        self.start_cluster({"cp1": "aws"})
        self.define("three", [{"name": "a", "capability": "text:echo", "next_node": "b"},
                              {"name": "b", "capability": "text:spoil", "next_node": "c"},
                              {"name": "c", "capability": "text:echo"}])
        self.assertEqual(self.show("three", "text"),
                         " ╭───────────╮\n │ a         │\n │ text:echo │\n ╰─────┬─────╯\n       ▼\n"
                         "╭─────────────╮\n│ b           │\n│ text:spoil  │\n╰──────┬──────╯\n       ▼\n"
                         " ╭───────────╮\n │ c         │\n │ text:echo │\n ╰───────────╯\n")
        self.assertEqual(self.show("three", "text"), self.show("three", "text"))
        self.assertEqual(well_formed(self, self.show("three", "svg"), 3), ["a", "b", "c"])
        self.start_worker("w1", {"text:echo": ECHO, "text:spoil": FINAL})
        run = self.cluster.poctl("pipeline", "run", "three")["id"]
        wait_until(lambda: self.cluster.poctl("pipeline", "show", str(run))["state"] == "failed", what="the end of the run")
        picture = self.show(run, "text")
        for line in ("│ a       ✓ │", "│ b         ✗ │", "│ on w1       │", "│ c       · │"):
            self.assertIn(line, picture)
        self.assertEqual(well_formed(self, self.show(run, "svg"), 3), ["a: succeeded", "b: failed", "c: not begun"])
        dot = self.show(run, "dot")
        self.assertIn('"a" -> "b";', dot)
        self.read_by_graphviz(dot)
        # The same from the directory, as it was before anything ran.
        self.cluster.stop()
        ran = subprocess.run([self.cluster.program("poctl"), "replay", "pipeline", "show", str(run), "--graph", "text",
                              "--data-dir", self.cluster.data_dir("cp1")], capture_output=True, text=True, env=environment())
        self.assertEqual((ran.returncode, ran.stdout), (0, picture))

    def test_forty_steps(self):
        self.start_cluster({"cp1": "aws"})
        self.define("long", [{"name": f"step-{i}", "capability": "do:it", **({"next_node": f"step-{i + 1}"} if i < 39 else {})}
                             for i in range(40)])
        text = self.show("long", "text")
        self.assertEqual((text.count("▼"), text.count("╭")), (39, 40))
        well_formed(self, self.show("long", "svg"), 40)
        self.read_by_graphviz(self.show("long", "dot"))

    def test_refusals(self):
        self.start_cluster({"cp1": "aws"})
        with self.assertRaisesRegex(PoctlError, "exit code 1.*no such pipeline"):
            self.show("nobody", "svg")
        with self.assertRaisesRegex(PoctlError, "exit code 2.*--graph draws; it has no form in JSON"):
            self.show("nobody", "text", "-o", "json")
        with self.assertRaisesRegex(PoctlError, "exit code 2.*is not one of text.dot.svg"):
            self.show("nobody", "png")

    @staticmethod
    def read_by_graphviz(text):
        if shutil.which("dot"):  # it is only here to say whether it understands
            subprocess.run(["dot", "-Tplain"], input=text, capture_output=True, text=True, check=True, timeout=60)


if __name__ == "__main__":
    harness.main()
