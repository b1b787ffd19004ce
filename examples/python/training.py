"""Training a model in parallel: a grid of hyper-parameters, a task for each, on GPU and CPU workers that offer the same capability.

    pip install pipeorch scikit-learn       # or ./bindings/python of a checkout in place of pipeorch
    python3 training.py [--seed N] [--model FILE]

A control node and three workers run in this process; in production each is a process of its own, on a machine of its own. The
worker "gpu-1" declares that what it offers runs on a GPU; this machine may have none, so it trains as the others do. To the
cluster it is a GPU worker: the search goes to whoever is the least busy, and the last training, of the best model on all
that there is to learn from, to a GPU alone.

What is big goes through files of a folder that all workers see, or through an object store; only names and figures through
the cluster.
"""

import argparse
import collections
import contextlib
import pathlib
import tempfile
from typing import Any, Dict, List, Optional

import joblib
import numpy
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from pipeorch import Context, Node, Placement, Worker, pipeline, task

GRID = [{"C": C, "gamma": gamma} for C in (0.1, 1.0, 10.0) for gamma in (0.0001, 0.001, 0.01, 0.1)]


# ---- the work ----


@task("split:digits")
def split(folder: str, seed: int) -> Dict[str, str]:
    """Images of handwritten digits: 60 % to learn from, 20 % to choose by, and 20 % that no choice has seen."""
    images, digits = load_digits(return_X_y=True)
    rest_x, test_x, rest_y, test_y = train_test_split(images, digits, test_size=0.2, random_state=seed, stratify=digits)
    train_x, choose_x, train_y, choose_y = train_test_split(rest_x, rest_y, test_size=0.25, random_state=seed, stratify=rest_y)
    parts = {"train": (train_x, train_y), "choose": (choose_x, choose_y), "rest": (rest_x, rest_y), "test": (test_x, test_y)}
    for name, (x, y) in parts.items():
        numpy.savez(pathlib.Path(folder, name), x=x, y=y)
    return {name: str(pathlib.Path(folder, f"{name}.npz")) for name in parts}


def read(path: str) -> Any:
    with numpy.load(path) as data:
        return data["x"], data["y"]


def fit(params: Dict[str, float], learn: str, check: str, save: Optional[str], device: str, ctx: Context) -> Dict[str, Any]:
    """Train on one file, measure on another, and keep the model if somebody wants it."""
    model = SVC(**params).fit(*read(learn))
    if save is not None:
        part = pathlib.Path(f"{save}.{ctx.token}")  # two attempts never write the same file
        joblib.dump(model, part)
        part.replace(save)
    return {"params": params, "accuracy": round(model.score(*read(check)), 4), "device": device}


# One capability, two implementations: who submits "fit:svm" says what it needs, and not where it runs.


@task("fit:svm", requires_gpu=True, max_concurrency=2, timeout=120)
def fit_gpu(params: Dict[str, float], learn: str, check: str, ctx: Context, save: Optional[str] = None) -> Dict[str, Any]:
    return fit(params, learn, check, save, "gpu", ctx)  # on such a machine: cuml.svm.SVC in place of sklearn's


@task("fit:svm", timeout=120)
def fit_cpu(params: Dict[str, float], learn: str, check: str, ctx: Context, save: Optional[str] = None) -> Dict[str, Any]:
    return fit(params, learn, check, save, "cpu", ctx)


@task("choose:best")
def choose(results: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Of equally good ones the first in the grid, so that a repeated attempt chooses alike."""
    return max(results, key=lambda result: result["accuracy"])


# ---- the pipeline ----


@pipeline
def search(folder: str, grid: List[Dict[str, float]], model: str, seed: int = 0):
    """Try every point of a grid, side by side; train the best one again, on all but the test data."""
    parts = split(folder, seed)
    # fit_cpu stands for its capability here: a step asks for "fit:svm", whoever offers it.
    tried = fit_cpu.options(name="try").map(grid, parts.train, parts.choose)
    best = choose(tried)
    on_gpu = fit_cpu.options(name="final", placement=Placement(gpu="required"))  # or by a label: labels={"device": "gpu"}
    final = on_gpu(best.params, parts.rest, parts.test, save=model)
    return {"tried": tried, "best": best, "final": final}


# ---- the cluster ----


def workers(node: Node) -> List[Worker]:
    made = []
    for name, fits in (("gpu-1", fit_gpu), ("cpu-1", fit_cpu), ("cpu-2", fit_cpu)):
        worker = Worker(name, node.worker_address, labels={"device": name[:3]})
        worker.add(split)
        worker.add(fits)
        worker.add(choose)
        made.append(worker)
    return made


def show(found: Dict[str, Any]) -> None:
    print("    C   gamma  accuracy  on")
    for result in found["tried"]:
        mark = "  <- best" if result["params"] == found["best"]["params"] else ""
        print(f"{result['params']['C']:5g} {result['params']['gamma']:7g}    {result['accuracy']:.4f}  {result['device']}{mark}")
    shares = collections.Counter(result["device"] for result in found["tried"])
    print("shared by " + ", ".join(f"{device}: {count} of {len(found['tried'])}" for device, count in sorted(shares.items())))
    print(f"final model, trained on {found['final']['device']}: {found['final']['accuracy']:.4f} of images that no choice has seen")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--model", help="where the final model is kept; by default, nowhere")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="training-"))
        node = opened.enter_context(Node(f"{folder}/node", worker_listen="127.0.0.1:0"))
        node.wait_leader()
        for worker in workers(node):
            opened.enter_context(worker)
        model = pathlib.Path(arguments.model or f"{folder}/model.joblib").resolve()
        found = search.submit(node.client, folder, GRID, str(model), arguments.seed).result(timeout=300)
        show(found)


if __name__ == "__main__":
    main()
