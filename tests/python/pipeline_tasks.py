"""Tasks that the tests of pipelines share, and what they do with the pipelines."""

import dataclasses
from typing import Any, List

import pytest

from pipeorch import pipeline, task


@dataclasses.dataclass
class Job:
    file: str
    width: int = 640


@task("load:rows", retries=1, timeout=30)
def load(path: str, limit: int = 3) -> dict:
    return {"rows": list(range(limit)), "count": limit, "path": path}


@task("square:number", max_concurrency=4)
def square(n: int, add: int = 0) -> int:
    return n * n + add


@task("sum:numbers")
def total(numbers: List[int]) -> int:
    return sum(numbers)


@task("resize:image")
def resize(job: Job) -> str:
    return f"{job.file}@{job.width}"


@task("tell:value")
def tell(value: Any, /) -> Any:
    return value


@task("beat:drum")
def beat() -> None:
    pass


def steps(fn, **about):
    """The steps that a function adds, by name; the document must be valid."""
    made = pipeline(fn.__name__, **about)(fn)
    made.validate()
    return {s["name"]: s for s in made.document["steps"]}


def refused(fn, kind=Exception):
    """What is said of a function."""
    with pytest.raises(kind) as e:
        pipeline(fn).document
    return str(e.value)
