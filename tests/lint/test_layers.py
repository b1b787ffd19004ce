"""Each layer includes only what stands before it, and only the libraries that are its business.

The order is the list in libpipeorch/meson.build; ALLOWED is narrower than the order where the design is. A new layer or a
new edge is a decision: it is made here, in one line, together with its reason.
"""

import re
import unittest

import tree

ALLOWED = {
    "base": [],
    "codec": ["base"],
    # Cron and time zones: when schedules fire. Apart from the model, which must not depend on the zones' files of a machine.
    "calendar": ["base"],
    "model": ["base", "codec"],
    "storage": ["base"],
    "consensus": ["base", "codec", "model", "storage"],
    "node": ["base", "codec", "calendar", "model", "storage", "consensus"],  # calendar: the leader decides when a tick is due
    "net": ["base", "codec", "model", "consensus", "node"],
    "spec": ["base", "codec", "model"],
    "draw": ["base"],  # pictures of pipelines: of what JSON says about them, which is all that it knows
    "tools": ["base", "codec", "model", "storage", "consensus", "spec"],  # backups and the directories of stopped nodes
    "api": ["base", "codec", "model", "storage", "consensus", "node", "net", "spec", "draw", "tools"],
    # Whole clusters in virtual time. It stands on everything but sockets; nothing stands on it.
    "sim": ["base", "codec", "model", "storage", "consensus", "node", "spec"],
}

# The network layer talks to the node through its mailbox and the message formats, never to its insides.
NARROW = {("net", "node"): {"channel.h", "request.h"}, ("net", "consensus"): {"replica.h"}}

# Header of a library (a prefix) -> the layers, or single files, that may know it.
LIBRARIES = {
    "raft": ["consensus"],
    "uv.h": ["node", "net", "api"],
    "nng/": [],  # the other side of the wire in tests, and nothing else
    "msgpack": ["codec"],
    "jansson.h": ["spec", "draw", "api"],
    "openssl/": ["storage", "net", "tools", "api"],
    "pthread.h": ["base", "storage", "consensus/heap.c", "node", "net", "api"],  # one heap serves all node threads
    "sys/socket.h": ["net"],
    "netinet/": ["net"],
    "arpa/": ["net"],
    "netdb.h": ["net"],
    "fcntl.h": ["storage", "tools"],
    "dirent.h": ["storage"],
    "sys/stat.h": ["storage", "tools"],
    "sys/file.h": ["storage"],
    "sys/uio.h": ["storage", "net"],
    "sys/random.h": ["base", "node", "net", "tools", "api", "storage"],
}

# What programs may use besides the public headers: no logic, so nothing of the engine but its syntax of names.
DAEMONS = ["base", "codec", "spec", "model/command.h", "tools/tools.h"]

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)


def includes(path):
    """(line, quoted?, what) for each include of a file."""
    text = path.read_text()
    return [(text.count("\n", 0, m.start()) + 1, m[1] == '"', m[2]) for m in INCLUDE.finditer(text)]


def layer_of(path, what):
    """(layer, header) that a quoted include of this file names; layer None: none of ours."""
    for base in (path.parent, tree.LIBRARY):
        target = (base / what).resolve()
        if target.is_relative_to(tree.LIBRARY) and (target.exists() or base == path.parent and what.startswith("../")):
            parts = target.relative_to(tree.LIBRARY).parts
            return (parts[0], parts[-1]) if len(parts) > 1 else (None, parts[-1])
    return None, what


def problems_of(layer, path):
    for line, quoted, what in includes(path):
        place = f"{tree.name(path)}:{line}: #include {what}"
        if quoted:
            other, header = layer_of(path, what)
            if other is None:
                yield f"{place}: neither a header of a layer nor a public one in <>"
            elif other != layer and other not in ALLOWED[layer]:
                yield f"{place}: {layer}/ may include only {', '.join(ALLOWED[layer]) or 'nothing'}"
            elif header not in NARROW.get((layer, other), {header}):
                yield f"{place}: of {other}/, {layer}/ may include only {', '.join(sorted(NARROW[layer, other]))}"
        for prefix, layers in LIBRARIES.items():
            if not quoted and what.startswith(prefix) and not {layer, f"{layer}/{path.name}"} & set(layers):
                yield f"{place}: only {', '.join(layers)} may know this library"


class Layers(unittest.TestCase):
    def test_the_list_of_the_build_is_the_list_of_this_test(self):
        listed = re.search(r"foreach name : \[([^\]]*)\]", (tree.LIBRARY / "meson.build").read_text())[1]
        order = re.findall(r"'([a-z]+)'", listed)
        self.assertEqual(sorted(order), sorted(ALLOWED))
        for layer, allowed in ALLOWED.items():
            for other in allowed:
                self.assertLess(order.index(other), order.index(layer), f"{layer} includes {other}, which is built after it")

    def test_layers_include_only_what_is_below_them(self):
        problems = []
        for layer in ALLOWED:
            for path in tree.files(".c", ".h", under=tree.LIBRARY / layer):
                problems += problems_of(layer, path)
        self.assertFalse(problems, "\n" + "\n".join(problems))

    def test_one_file_knows_the_raft_library(self):
        knowing = [tree.name(path) for path in tree.files(".c", ".h", under=tree.LIBRARY)
                   if any(not quoted and what in ("raft.h", "raft/uv.h", "raft/fixture.h") for _, quoted, what in includes(path))]
        self.assertEqual(len(knowing), 1, knowing)

    def test_public_headers_include_only_public_headers(self):
        for path in tree.files(".h", ".in", under=tree.HEADERS):
            for line, quoted, what in includes(path):
                self.assertTrue(not quoted and (what.startswith("pipeorch/") or what in ("stddef.h", "stdint.h")),
                                f"{tree.name(path)}:{line}: {what}")

    def test_programs_use_public_headers_and_little_else(self):
        problems = []
        for path in tree.files(".c", ".h", under=tree.ROOT / "daemons"):
            for line, quoted, what in includes(path):
                layer, header = layer_of(path, what) if quoted else (None, what)
                if layer is not None and not {layer, f"{layer}/{header}"} & set(DAEMONS):
                    problems.append(f"{tree.name(path)}:{line}: #include {what}: programs may use only {', '.join(DAEMONS)}")
        self.assertFalse(problems, "\n" + "\n".join(problems))


if __name__ == "__main__":
    unittest.main()
