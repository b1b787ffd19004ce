"""tests/install-deps.sh: how it finds the machine's own Debian entry to copy for the backports."""

import pathlib
import subprocess
import sys
import tempfile
import textwrap
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "install-deps.sh"

DEB822 = textwrap.dedent("""\
    # what the installer wrote
    Types: deb
    URIs: http://example.org/debian-security
    Suites: bookworm-security
    Components: main
    Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

    Enabled: no
    Types: deb
    URIs: http://disabled.example.org/debian
    Suites: bookworm
    Components: main

    Types: deb deb-src
    # a comment inside a stanza
    URIs: http://example.org/debian
    Suites: bookworm
     bookworm-updates
    Components: main contrib
    Signed-By:
     -----BEGIN PGP PUBLIC KEY BLOCK-----
     .
     key
     -----END PGP PUBLIC KEY BLOCK-----
    """)

ONE_LINE = textwrap.dedent("""\
    # deb http://commented.example.org/debian bookworm main
    deb cdrom:[Debian 12]/ bookworm main
    deb http://example.org/debian-security bookworm-security main
    deb-src http://example.org/debian bookworm main
    deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://example.org/debian bookworm main contrib # ours
    deb http://second.example.org/debian bookworm main
    """)


def copied(function, text):
    """What one of the script's functions prints for a source file with this text."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        body = subprocess.run(["sed", "-n", f"/^{function}() {{/,/^}}/p", str(SCRIPT)], capture_output=True, text=True,
                              check=True).stdout
        return subprocess.run(["bash", "-euc", f'debian=bookworm\n{body}\n{function} "$1"', "bash", file.name],
                              capture_output=True, text=True, check=True).stdout


class Backports(unittest.TestCase):
    def test_deb822_copies_the_right_stanza_whole(self):
        self.assertEqual(copied("backports_from_deb822", DEB822), textwrap.dedent("""\
            Types: deb
            Suites: bookworm-backports
            URIs: http://example.org/debian
            Components: main contrib
            Signed-By:
             -----BEGIN PGP PUBLIC KEY BLOCK-----
             .
             key
             -----END PGP PUBLIC KEY BLOCK-----
            """))

    def test_deb822_without_the_suite_gives_nothing(self):
        self.assertEqual(copied("backports_from_deb822", DEB822.replace("Suites: bookworm\n", "Suites: trixie\n")), "")

    def test_one_line_entry_is_copied_with_its_options(self):
        self.assertEqual(copied("backports_from_lines", ONE_LINE).split(),
                         ["deb", "[arch=amd64", "signed-by=/usr/share/keyrings/a.gpg]", "http://example.org/debian",
                          "bookworm-backports", "main", "contrib"])

    def test_one_line_without_the_suite_gives_nothing(self):
        self.assertEqual(copied("backports_from_lines", "deb http://example.org/debian-security bookworm-security main\n"), "")


class Usage(unittest.TestCase):
    def test_unknown_argument_is_refused(self):
        ran = subprocess.run(["bash", str(SCRIPT), "--cl"], capture_output=True, text=True)
        self.assertEqual(ran.returncode, 2)
        self.assertIn("unknown argument --cl", ran.stderr)


if __name__ == "__main__":
    unittest.main()
