"""The work of the steps of pipeline.json. A worker runs one function as a process of its own: its input is the JSON on stdin, as
the step's "input" makes it, its result the JSON on stdout. What goes to stderr becomes the attempt's error; exit code 65
(EX_DATAERR) says that another attempt would be useless."""

import csv
import json
import os
import pathlib
import shutil
import sys


def split(task):
    """One file for each source; the map of the next step is over these."""
    folder = pathlib.Path(task["folder"])
    folder.mkdir(parents=True, exist_ok=True)  # an earlier attempt may have been here
    rows = {}
    with open(task["file"], encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["source"], []).append((int(row["year"][:4]), row["net_generation"]))
    parts = []
    for source, values in rows.items():
        path = folder / f"{source.replace(' ', '-')}.json"
        path.write_text(json.dumps(values))
        parts.append({"source": source, "file": str(path)})
    return {"parts": parts}


def trend(task):
    """The least-squares line through one source's years."""
    values = [(year, float(value)) for year, value in json.loads(pathlib.Path(task["file"]).read_text())]
    mean = sum(year for year, _ in values) / len(values)
    height = sum(value for _, value in values) / len(values)
    slope = sum((year - mean) * value for year, value in values) / sum((year - mean) ** 2 for year, _ in values)
    return {"source": task["source"], "per_year": round(slope, 3), "forecast": round(height + slope * (task["year"] - mean), 3)}


def compare(trends):
    """All of them together: this step starts when the last trend is there."""
    return {
        "forecast": {trend["source"]: trend["forecast"] for trend in trends},
        "rising": [trend["source"] for trend in trends if trend["per_year"] >= 0],
        "falling": [trend["source"] for trend in trends if trend["per_year"] < 0],
    }


def warn(text):
    print(text, file=sys.stderr)


def cleanup(folder):
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        work = {"split": split, "trend": trend, "compare": compare, "warn": warn, "cleanup": cleanup}[sys.argv[1]]
        json.dump(work(json.load(sys.stdin)), sys.stdout)
    except (KeyError, ValueError, ZeroDivisionError) as error:
        sys.exit(print(f"{type(error).__name__}: {error}", file=sys.stderr) or os.EX_DATAERR)
