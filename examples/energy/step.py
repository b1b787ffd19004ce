"""What every step shares: read one task from stdin, write one result to stdout.

A worker starts a step as a process of its own for each attempt. The task is one JSON object:

    {"pipeline": NAME, "run_id": N, "step": NAME, "params": ANY, "config": ANY, "input": ANY}

`params` is what the run was started with, `config` stands in the pipeline document, `input` is the result of the step
before (null for the first). The result is the JSON text on stdout; what goes to stderr becomes the attempt's error.

Exit codes, from sysexits.h: 0 done; 65 (EX_DATAERR) the data are wrong, so another attempt is useless; any other code
is a fault that may pass, and the cluster tries again.
"""

import json
import os
import sys

RESULT_MAX_BYTES = 1024 * 1024  # the cluster stores no larger result


class DataError(Exception):
    """The input is wrong; the same input will be wrong again."""


def field(container, name, kind, where):
    """container[name], which must be of the given type; `where` is how an error names the container."""
    if not isinstance(container, dict) or name not in container:
        raise DataError(f"{where}: no {name!r}; expected {_article(kind)}")
    value = container[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise DataError(f"{where}: {name!r} is {json.dumps(value)[:60]}; expected {_article(kind)}")
    return value


def _article(kind):
    names = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}
    return names.get(kind, "a number")


def main(work):
    """Run work(params, config, input) -> result as this process's task, and exit."""
    try:
        task = json.load(sys.stdin)
        if not isinstance(task, dict):
            raise DataError("the task is not a JSON object")
        result = work(task.get("params"), task.get("config"), task.get("input"))
        text = json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
        if size > RESULT_MAX_BYTES:
            raise DataError(f"the result has {size} bytes; a step may return at most {RESULT_MAX_BYTES}")
    except json.JSONDecodeError as error:
        sys.exit(_failed(f"the task is not JSON: {error}"))
    except DataError as error:
        sys.exit(_failed(str(error)))
    sys.stdout.write(text + "\n")


def _failed(message):
    print(message, file=sys.stderr)
    return os.EX_DATAERR
