"""The pure layers import nothing that reads or changes the world: no I/O, clock, random number, thread.

The objects of base and calendar (but for the files that are their doors to the host), codec and model are looked at with nm. ALLOWED is the whole
list of what they may import from outside; FORBIDDEN only makes the message better.
"""

import re
import subprocess
import unittest

import tree

LAYERS = ["base", "codec", "calendar", "model"]
# Memory, abort, the clock of log lines; the files of time zones.
HOST_FILES = {"base": {"alloc.c", "assert.c", "log.c"}, "calendar": {"zone.c"}}

ALLOWED = {
    # bytes, text and sorting
    "memcpy", "memmove", "memset", "memcmp", "memchr", "memrchr", "memmem",
    "strlen", "strnlen", "strcmp", "strncmp", "strchr", "strrchr", "strspn", "strcspn", "strstr",
    "snprintf", "vsnprintf", "strtoull", "strtoul", "__isoc99_sscanf", "qsort", "bsearch",
    # what the compiler adds
    "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail", "__cpu_model", "__cpu_indicator_init", "__memcpy_chk", "__memset_chk",
    "__memmove_chk", "__snprintf_chk", "__vsnprintf_chk", "__popcountdi2", "__errno_location",
}
INSTRUMENTS = re.compile(r"__(asan|ubsan|tsan|sanitizer|gcov)_|__sanitizer_|mcount$")
OURS = re.compile(r"po_")

FORBIDDEN = {
    "I/O": r"f?(open|close|read|write|puts|printf|flush|seek)(64|v)?$|std(in|out|err)$|p?(read|write)(64)?$|unlink|rename|fsync",
    "a clock": r"clock_|time$|gettimeofday|nanosleep|usleep|uv_hrtime|uv_now|localtime|gmtime",
    "random numbers": r"s?rand(om)?(_r)?$|getrandom|getentropy|arc4random|RAND_",
    "threads": r"pthread_|thrd_|mtx_|uv_(mutex|thread|cond|async)",
    "memory that is not counted": r"malloc$|calloc$|realloc$|free$|strn?dup$",
    "the network": r"socket$|connect$|send|recv|getaddrinfo|uv_",
    "the environment": r"getenv|setlocale|environ",
}


def imports(path):
    output = subprocess.run(["nm", "-u", "--format=posix", str(path)], capture_output=True, text=True, check=True).stdout
    return {line.split()[0].split("@")[0] for line in output.splitlines() if line.strip()}


def kind_of(symbol):
    return next((kind for kind, pattern in FORBIDDEN.items() if re.match(pattern, symbol)), None)


class Purity(unittest.TestCase):
    def objects(self, layer):
        """(source name, object) for each object of a layer's static library."""
        found = sorted((tree.BUILD / "libpipeorch" / layer).glob("*.p/*.o"))
        self.assertTrue(found, f"no objects of {layer}/ in {tree.BUILD}: build first")
        return [(path.stem, path) for path in found]

    def test_pure_layers_import_nothing_impure(self):
        problems = []
        for layer in LAYERS:
            for source, path in self.objects(layer):
                if source in HOST_FILES.get(layer, ()):
                    continue
                for symbol in sorted(imports(path)):
                    if symbol in ALLOWED or OURS.match(symbol) or INSTRUMENTS.match(symbol):
                        continue
                    why = kind_of(symbol)
                    problems.append(f"libpipeorch/{layer}/{source}: {symbol}" +
                                    (f": {why}" if why else ": not in the list of what pure layers import"))
        self.assertFalse(problems, "\n" + "\n".join(problems))

    def test_the_check_sees_what_it_looks_for(self):
        """log.c reads the clock: if this finds nothing there, it would find nothing anywhere."""
        symbols = set().union(*(imports(path) for source, path in self.objects("base") if source in HOST_FILES["base"]))
        self.assertIn("a clock", {kind_of(symbol) for symbol in symbols})


if __name__ == "__main__":
    unittest.main()
