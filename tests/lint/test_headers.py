"""Each public header compiles alone, as C11 and as C++17, without a warning."""

import unittest

import tree

STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", *tree.INCLUDES]


class Headers(unittest.TestCase):
    def headers(self):
        return [f"pipeorch/{path.name.removesuffix('.in')}" for path in tree.files(".h", ".h.in", under=tree.HEADERS)]

    def each(self, command):
        for header in self.headers():
            with self.subTest(header):
                text = f"#include <{header}>\n#include <{header}>\nint used;\n"
                self.assertEqual(tree.compile_text(command, text), "")

    def test_c11(self):
        self.each([*tree.CC, "-std=c11", "-Wstrict-prototypes", *STRICT, "-x", "c", "-"])

    def test_cxx17(self):
        self.each([*tree.CXX, "-std=c++17", *STRICT, "-x", "c++", "-"])

    def test_c_users_need_no_extension(self):
        """Nothing depends on _GNU_SOURCE, which the library itself is built with."""
        self.each([*tree.CC, "-std=c11", "-U_GNU_SOURCE", "-D_POSIX_C_SOURCE=200809L", *STRICT, "-x", "c", "-"])


if __name__ == "__main__":
    unittest.main()
