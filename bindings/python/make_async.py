#!/usr/bin/env python3
"""Make pipeorch/aclient.py from pipeorch/client.py: the same calls as coroutines, written once.

    make_async.py [--check]     write the file, or say whether it is what would be written (exit status 1: it is not)
"""

import pathlib
import re
import sys

PACKAGE = pathlib.Path(__file__).resolve().parent / "pipeorch"
RENAMED = {"Client": "AsyncClient", "TaskHandle": "AsyncTaskHandle", "RunHandle": "AsyncRunHandle", "InProcessClient": "AsyncInProcessClient",
           "in_thread": "in_thread_async",
           "__enter__": "__aenter__", "__exit__": "__aexit__"}
PRIVATE_AND_AWAITED = ("__aenter__", "__aexit__", "_do", "_do_many", "_finish")


def _made_async(method: "re.Match[str]") -> str:
    awaited = not method[1].startswith("_") or method[1] in PRIVATE_AND_AWAITED
    return f"    async def {method[1]}(" if awaited else method[0]


def converted(text: str) -> str:
    head, body = text.split("from __future__", 1)
    for old, new in RENAMED.items():
        body = re.sub(rf"(?<![\w.\"]){old}\b", new, body)
    body = re.sub(r"\bmilliseconds, run, run_many\b", "milliseconds, run_async, run_many_async", body)
    body = re.sub(r"^class (?:Task|Run)Failed\(.*?(?=^class )", "", body, flags=re.MULTILINE | re.DOTALL)
    body = re.sub(r"^def _prepared\(.*\Z", "", body, flags=re.MULTILINE | re.DOTALL)
    body = re.sub(r"^from \.errors import", "from .client import RunFailed, TaskFailed, _prepared\nfrom .errors import", body, count=1, flags=re.MULTILINE)
    body = re.sub(r"^    def (\w+)\(", _made_async, body, flags=re.MULTILINE)
    body = body.replace("return run(self, op)", "return await run_async(self, op)")
    body = body.replace("return run_many(self, ops)", "return await run_many_async(self, ops)")
    body = re.sub(r"\b((?:self|super\(\))\.(?:_do|_do_many|_finish|close)\(|self\._client\.\w+\(|in_thread_async\((?=send|lambda|self))", r"await \1", body)
    body = re.sub(r'"""A client of a cluster, over the network\.', '"""A client of a cluster, over the network, for asyncio.', body)
    head = '"""Calls on the control plane, awaited: made by make_async.py from client.py, where they are documented in common. Change that."""\n\n'
    return (head + "from __future__" + body).rstrip() + "\n"


def main() -> int:
    target = PACKAGE / "aclient.py"
    wanted = converted((PACKAGE / "client.py").read_text())
    if "--check" in sys.argv[1:]:
        if target.read_text() == wanted:
            return 0
        print(f"{target.name} is not what make_async.py makes of client.py; run make_async.py", file=sys.stderr)
        return 1
    target.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
