"""What must not stand in the tree: machines, package hosts, and talk about how the work was done."""

import re
import unittest

import tree

# Written so that this file does not contain what it forbids.
FORBIDDEN = {
    "a path of one machine": r"/(ho" r"me|ro" r"ot|wo" r"rk|Us" r"ers)/[A-Za-z0-9._-]",
    "a package host": r"^UR" r"Is:|ind" r"ex-url|regi" r"stry *=|GOPR" r"OXY=",
    "talk about the work": r"\b(iss" r"ue|tick" r"et|pha" r"se|miles" r"tone) #?[0-9]+\b|\bsub-?age" r"nts?\b|\bthis sess" r"ion\b|\bLL" r"M\b",
    "an unfinished place": r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b",
}
BINARY = (".png", ".bin", ".snap", ".log", ".wal", ".gz")
LINE_MAX = 160


class Text(unittest.TestCase):
    def test_nothing_forbidden(self):
        problems = []
        for path in tree.files():
            if path.name.endswith(BINARY) or "corpus" in path.parts:
                continue
            text = path.read_text(errors="surrogateescape")
            for what, pattern in FORBIDDEN.items():
                for match in re.finditer(pattern, text, re.MULTILINE):
                    line = text.count("\n", 0, match.start()) + 1
                    problems.append(f"{tree.name(path)}:{line}: {what}: {match[0]!r}")
        self.assertFalse(problems, "\n" + "\n".join(problems))

    def test_text_is_tidy(self):
        problems = []
        for path in tree.files(".c", ".h", ".cc", ".py", ".sh", ".build", ".md", ".map"):
            for number, line in enumerate(path.read_text().split("\n"), start=1):
                if "\t" in line:
                    problems.append(f"{tree.name(path)}:{number}: a tab")
                if line != line.rstrip():
                    problems.append(f"{tree.name(path)}:{number}: blanks at the end")
                if len(line) > LINE_MAX and path.name.endswith((".py", ".sh", ".build")):
                    problems.append(f"{tree.name(path)}:{number}: {len(line)} columns; at most {LINE_MAX}")
        self.assertFalse(problems, "\n" + "\n".join(problems))


if __name__ == "__main__":
    unittest.main()
