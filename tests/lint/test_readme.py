"""The complete programs of README.md compile and link as they stand there: a block of C or C++ with a main()."""

import pathlib
import re
import tempfile
import unittest

import tree

BLOCK = re.compile(r"^```(c|cpp|c\+\+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FLAGS = ["-Wall", "-Wextra", "-Werror", *tree.INCLUDES]


def programs(language):
    """(line, text) of each complete program in one language."""
    text = (tree.ROOT / "README.md").read_text()
    return [(text.count("\n", 0, m.start()) + 1, m[2]) for m in BLOCK.finditer(text)
            if (m[1] == "c") == (language == "c") and re.search(r"\bint main\(", m[2])]


class Readme(unittest.TestCase):
    def build(self, language, command):
        found = programs(language)
        self.assertTrue(found, f"README.md shows no complete {language} program")
        for line, text in found:
            with self.subTest(f"README.md:{line}"), tempfile.TemporaryDirectory() as folder:
                out = str(pathlib.Path(folder, "program"))
                library = tree.BUILD / "libpipeorch"
                link = ["-x", language, "-", "-x", "none", f"-L{library}", "-lpipeorch", f"-Wl,-rpath,{library}", "-lpthread"]
                self.assertEqual(tree.compile_text([*command, *FLAGS, "-o", out, *link], text), "")

    def test_c(self):
        self.build("c", [*tree.CC, "-std=c11"])

    def test_cxx(self):
        self.build("c++", [*tree.CXX, "-std=c++17"])

    def test_paths_exist(self):
        """What the README names by path is there."""
        text = (tree.ROOT / "README.md").read_text()
        named = set(re.findall(r"`((?:libpipeorch|include|daemons|examples|tests|\.ci)/[A-Za-z0-9_./-]*)`", text))
        missing = sorted(path for path in named if not (tree.ROOT / path).exists())
        self.assertFalse(missing, f"README.md names {', '.join(missing)}")


if __name__ == "__main__":
    unittest.main()
