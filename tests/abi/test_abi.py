"""The binary interface stays as it was released.

symbols.txt and layout-lp64.txt are the record: what libpipeorch.so exports, with the release that brought it, and the size, offset or
value of everything in the public headers. A change here breaks programs that are already compiled, unless it only appends:
a new function goes into the version script's newest block and symbols.txt, a new member to the end of its struct.

  python3 test_abi.py --record     writes both files anew, for the commit that changes the interface on purpose
"""

import difflib
import pathlib
import re
import subprocess
import sys
import unittest

import headers

HERE = pathlib.Path(__file__).resolve().parent
SYMBOLS = HERE / "symbols.txt"
LAYOUT = HERE / "layout-lp64.txt"
LIBRARY = headers.BUILD / "libpipeorch" / "libpipeorch.so"
MAP = headers.ROOT / "libpipeorch" / "pipeorch.map"


def exported():
    """name@@VERSION of each symbol that the shared library defines, the version nodes themselves left out."""
    output = subprocess.run(["nm", "-D", "--defined-only", "--format=posix", str(LIBRARY)], capture_output=True, text=True,
                            check=True).stdout
    return sorted(line.split()[0] for line in output.splitlines() if line.split()[1] != "A")


def mapped():
    """name@@VERSION of each name in the version script."""
    text = re.sub(r"/\*.*?\*/", "", MAP.read_text(), flags=re.DOTALL)
    blocks = re.findall(r"(PIPEORCH_(?:[0-9.]+|PROVISIONAL))\s*\{(.*?)\}", text, re.DOTALL)
    return sorted(f"{name}@@{version}" for version, body in blocks for name in re.findall(r"^\s*(\w[^\s:;]*);", body, re.MULTILINE)
                  if name != "local")


def difference(recorded, now):
    return "\n" + "\n".join(difflib.unified_diff(recorded, now, "recorded", "now", lineterm="", n=1))


class Abi(unittest.TestCase):
    maxDiff = None

    def test_exports_are_the_recorded_ones(self):
        recorded = SYMBOLS.read_text().split()
        self.assertEqual(recorded, exported(), difference(recorded, exported()))

    def test_version_script_names_each_symbol(self):
        self.assertNotIn("po_*", MAP.read_text())
        self.assertEqual(mapped(), SYMBOLS.read_text().split())

    def test_headers_declare_what_is_exported(self):
        names = sorted(symbol.split("@")[0] for symbol in exported())
        self.assertEqual(headers.functions(), names, difference(names, headers.functions()))

    def test_every_export_says_since_when(self):
        """Each declaration, or the one it stands together with, is introduced by a comment with "Since X.Y"."""
        for path in sorted(headers.HEADERS.glob("*.h*")):
            comment = ""
            for match in re.finditer(r"^/\*.*?\*/|\bPO_API\b[^;{]*?\b(po_\w+)\s*\(", path.read_text(), re.DOTALL | re.MULTILINE):
                if match[1] is None:
                    comment = match[0] if "----" not in match[0] else comment
                else:
                    self.assertTrue(re.search(r"Since[\s*]+\d+\.\d+", comment) or match[1].endswith("_async"),
                                    f"{path.name}: {match[1]} does not say since when")

    @unittest.skipUnless(sys.maxsize > 2**32, "recorded for 64-bit systems")
    def test_layout_is_the_recorded_one(self):
        recorded, now = LAYOUT.read_text().splitlines(), headers.layout().splitlines()
        self.assertEqual(recorded, now, difference(recorded, now))

    def test_structs_that_grow_begin_with_their_size(self):
        for name, names in headers.structs().items():
            if name.endswith(("_opts", "_info", "_query", "_status", "_result", "_event", "_capability", "_machine")):
                self.assertTrue(names[0] == "size" or name == "po_log_opts", name)

    def test_soname_carries_the_major_version(self):
        output = subprocess.run(["readelf", "-d", str(LIBRARY)], capture_output=True, text=True, check=True).stdout
        self.assertRegex(output, r"SONAME.*\[libpipeorch\.so\.\d+\]")


if __name__ == "__main__":
    if sys.argv[1:] == ["--record"]:
        SYMBOLS.write_text("\n".join(exported()) + "\n")
        LAYOUT.write_text(headers.layout())
    else:
        unittest.main()
