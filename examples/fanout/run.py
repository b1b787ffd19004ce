"""Run pipeline.json on a cluster of this machine, and show what became of each step.

  python3 run.py [--build DIR] [CSV]      DIR: the build folder with the programs, by default ../../build
"""

import argparse
import json
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "energy"))

from local_cluster import Cluster, wait_until  # noqa: E402

ELECTRICITY = HERE.parent / "energy" / "data" / "iowa-electricity.csv"


def run(cluster, folder, csv):
    cluster.start()
    wait_until(cluster.leader, what="a leader")
    for name in ("w1", "w2"):
        cluster.worker(name, "lab", HERE / "workers.json")
    cluster.poctl("pipeline", "define", str(HERE / "pipeline.json"))
    params = {"electricity": str(csv), "folder": str(folder)}
    run_id = str(cluster.poctl("pipeline", "run", "fanout", "--params", json.dumps(params))["id"])
    wait_until(lambda: cluster.poctl("pipeline", "show", run_id)["state"] != "running", timeout_s=60, what="the end of the run")
    print(cluster.poctl_text("pipeline", "show", run_id))
    return cluster.poctl("pipeline", "show", run_id)["state"] == "succeeded"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=HERE.parents[1] / "build")
    parser.add_argument("csv", nargs="?", default=ELECTRICITY, type=pathlib.Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fanout-") as folder:
        cluster = Cluster(arguments.build, folder, {"cp1": "lab"})
        try:
            succeeded = run(cluster, pathlib.Path(folder), arguments.csv.resolve())
        finally:
            cluster.stop()
    sys.exit(0 if succeeded else 1)


if __name__ == "__main__":
    main()
