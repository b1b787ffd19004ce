"""ingest: from two files to durable input.

Takes the CSV files named by the run's params into the cluster, line by line and unchanged, with their SHA-256: from here on
the run does not depend on a file that only one machine has. Only the header is judged here; the rows are `clean`'s.

params: {"electricity": PATH, "weather": PATH}      config: {"columns": {"electricity": [...], "weather": [...]}}
result: {"electricity": {"file", "sha256", "lines": [...]}, "weather": {...}}
"""

import hashlib
import os

import step

FILE_MAX_BYTES = 512 * 1024  # of each file: both, as JSON, must fit into one result


def read(name, path, columns):
    """One file as {"file", "sha256", "lines"}; the header is checked and left out."""
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_MAX_BYTES + 1)
    except FileNotFoundError:
        raise step.DataError(f"{path}: no such file (params: {name!r})") from None
    if len(data) > FILE_MAX_BYTES:
        raise step.DataError(f"{path}: more than {FILE_MAX_BYTES} bytes; split the file")
    # Bytes that are no text stay visible as \xNN, for `clean` to point at.
    text = data.decode("utf-8-sig", errors="backslashreplace").replace("\0", "\\x00").replace("\r\n", "\n")
    header, *lines = text.removesuffix("\n").split("\n")
    if header != ",".join(columns):
        raise step.DataError(f"{path}: row 1 is {header[:200]!r}; expected the columns {','.join(columns)!r}")
    return {
        "file": os.path.basename(path),
        "sha256": hashlib.sha256(data).hexdigest(),
        "lines": lines,
    }


def work(params, config, _input):
    columns = step.field(config, "columns", dict, "config")
    return {
        name: read(name, step.field(params, name, str, "params"), step.field(columns, name, list, "config/columns"))
        for name in ("electricity", "weather")
    }


if __name__ == "__main__":
    step.main(work)
