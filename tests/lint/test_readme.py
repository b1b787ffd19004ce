"""README.md tells the truth: its complete programs (a block of C or C++ with a main()) compile and link as they stand there,
the paths that it names exist, and its limits are those of the headers."""

import pathlib
import re
import subprocess
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


UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "s": 1000, "h": 3600000}  # times are in ms


def number(text):
    digits, _, unit = text.partition(" ")
    return int(digits.replace(",", "")) * UNITS[unit or "bytes"]


def defined():
    """{name: definitions} of every limit in the headers."""
    found = {}
    for header in tree.files(".h", under=tree.HEADERS) + tree.files(".h", under=tree.LIBRARY):
        text = re.sub(r"/\*.*?\*/", " ", header.read_text().replace("\\\n", " "), flags=re.DOTALL)
        for name, value in re.findall(r"^#define (PO_\w*MAX\w*)[ \t]+(.+)$", text, re.MULTILINE):
            found.setdefault(name, set()).add(value.strip())
    return found


def limits(names):
    """{name: value}, as the compiler computes them."""
    known = defined()
    lines = ["#include <stdio.h>", "#include <stdint.h>", "#include <stddef.h>"]
    lines += [f"#define {name} {value}" for name, values in known.items() for value in values]
    prints = " ".join(f'printf("{name} %llu\\n", (unsigned long long)({name}));' for name in names)
    lines.append(f"int main(void) {{ {prints} return 0; }}")
    with tempfile.TemporaryDirectory() as folder:
        program = str(pathlib.Path(folder, "limits"))
        # -Werror: a limit that two headers define differently is an error, too.
        problem = tree.compile_text([*tree.CC, "-Werror", "-x", "c", "-", "-o", program], "\n".join(lines))
        assert not problem, problem
        said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in (line.split() for line in said.splitlines())}


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

    def test_limits_are_those_of_the_headers(self):
        """Each row of the table of limits: as many values as constants, and equal; no public limit is left out."""
        rows = re.findall(r"^\| (.+?) \| (.+?) \| ((?:`PO_+[A-Z_]+`(?:, )?)+) \|$", (tree.ROOT / "README.md").read_text(),
                          re.MULTILINE)
        self.assertTrue(rows)
        wanted = {}
        for what, values, constants in rows:
            names = re.findall(r"`(\w+)`", constants)
            self.assertEqual(len(names), len(values.split("; ")), what)
            wanted.update(zip(names, values.split("; ")))
        values = limits(wanted)
        self.assertEqual({name: number(text) for name, text in wanted.items()}, values)
        public = {name for name in defined() if name.startswith("PO_") and not name.startswith("PO__")}
        self.assertLessEqual(public, set(wanted))


if __name__ == "__main__":
    unittest.main()
