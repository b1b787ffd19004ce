"""Pipelines written as Python functions: the documents that they become."""

import concurrent.futures
import copy
import enum
import functools
import json
import multiprocessing
import operator
import pathlib
import pickle
import subprocess
import sys
import threading
from typing import Annotated, Any, Dict, List, Literal, Optional

import pytest
from pipeline_tasks import Job, beat, load, resize, square, steps, tell, total

from pipeorch import Pipeline, Placement, error_of, exists, index, item, length, pipeline, state_of, step, task, this_run

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
DOCUMENTS = sorted(path for path in EXAMPLES.rglob("*.json") if "steps" in json.loads(path.read_text()))


@pipeline
def BY_NAME(n: int = 2):
    return square(n)


# ---- the document ----


def test_a_function_becomes_the_document_that_would_be_written_by_hand():
    @pipeline("nightly", version="2")
    def nightly(path: Annotated[str, "a CSV file"], limit: int = 4):
        """Every night.

        More about it."""
        table = load(path, limit=limit)
        squares = square.map(table.rows, add=table["count"])
        return {"sum": total.options(name="sum", when=table.count > 2)(squares)}

    assert nightly.document == {
        "name": "nightly",
        "version": "2",
        "description": "Every night.",
        "params": {"path": {"type": "string", "required": True, "description": "a CSV file"}, "limit": {"type": "integer", "default": 4}},
        "steps": [
            {
                "name": "load",
                "capability": "load:rows",
                "input": {"path": "${params.path}", "limit": "${params.limit}"},
                "attempts_max": 2,
                "timeout_ms": 30000,
            },
            {
                "name": "square",
                "capability": "square:number",
                "depends_on": ["load"],
                "map": "${steps.load.output.rows}",
                "input": {"n": "${item}", "add": "${steps.load.output.count}"},
            },
            {
                "name": "sum",
                "capability": "sum:numbers",
                "depends_on": ["load", "square"],
                "when": "steps.load.output.count > 2",
                "input": {"numbers": "${steps.square.output}"},
            },
        ],
        "output": {"sum": "${steps.sum.output}"},
    }
    nightly.validate()
    assert nightly.edges == [("load", "square"), ("load", "sum"), ("square", "sum")]
    assert [s["name"] for s in nightly.steps] == ["load", "square", "sum"]
    assert nightly.tasks == [load, square, total]
    assert repr(nightly) == "<pipeline nightly>" and nightly.__doc__.startswith("Every night.")


def test_outside_of_a_pipeline_a_task_is_a_function():
    assert square(3) == 9 and total([1, 2]) == 3


def test_tasks_and_pipelines_are_pickled_by_name():
    for given in (square, BY_NAME):
        square.signature, BY_NAME.document  # what is made later does not count
        assert pickle.loads(pickle.dumps(given)) is given and copy.deepcopy([given])[0] is given
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(square, [2, 3])) == [4, 9]
    written = Pipeline.from_json(BY_NAME.document)
    assert pickle.loads(pickle.dumps(written)).document == written.document
    with pytest.raises((pickle.PicklingError, AttributeError), match="local"):
        pickle.dumps(task("a:b")(lambda n: n))
    added = task("a:b")(functools.partial(operator.add, 1))  # it has no name, and can be pickled itself
    assert pickle.loads(pickle.dumps(added))(2) == 3


def test_a_document_is_a_copy():
    @pipeline
    def once():
        beat()

    once.document["steps"].clear()
    assert len(once.document["steps"]) == 1 and once.to_json() == once.to_json()


def test_nothing_is_built_before_it_is_used():
    @pipeline
    def broken():
        raise RuntimeError("built")

    with pytest.raises(RuntimeError, match="built"):
        broken.document
    with pytest.raises(RuntimeError, match="built"):  # again: what failed is not kept
        broken.document


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.parent.name)
def test_examples_come_back_as_they_were(path):
    document = json.loads(path.read_text())
    for source in (path, path.read_text(), path.read_bytes(), document):
        made = Pipeline.from_json(source)
        made.validate()
        assert made.document == document and made.name == document["name"]
        assert json.loads(made.to_json()) == document
        assert Pipeline.from_json(made.to_json(indent=None)).document == document
    assert len(DOCUMENTS) >= 2


def test_what_functions_become_comes_back_as_it_was():
    @pipeline
    def below(numbers: List[int]):
        return total(numbers)

    @pipeline(aliases={"fit": "trend:line@^1.0"})
    def many(texts: List[str], flag: bool, n: float = 1.5, job: Job = Job("a", 1)):
        a = tell(f"$${texts[0]} ${{x}}")
        b = step("fit").options(retries=0, retry_delay=1, retry_delay_max=2, cache=60)(file=a, odd=a['a "b" }'])
        there = Placement(zone="aws", labels={"disk": "ssd"}, resources={"gpus": 1}, prefer="spread")
        c = resize.options(placement=there).map([job, {"file": b}])
        d = below.options(join="all_done", after=c, on_failure="continue")([1, 2])
        condition = flag & (exists(b.x) | (state_of(d) != "failed"))
        tell.options(when=condition, join="any_succeeded", priority=3)({"é": error_of(d), "run": this_run.id})

    document = many.document
    again = Pipeline.from_json(many.to_json())
    again.validate()
    many.validate()
    assert again.document == document
    assert again.edges == many.edges


def test_the_energy_pipeline_in_python_is_the_document():
    @pipeline
    def energy():
        """Electricity generation trend by source, and heating demand from hourly temperature"""
        columns = {"electricity": ["year", "source", "net_generation"], "weather": ["date", "pressure", "temperature", "wind"]}
        ranges = {"generation_range": [0, 1000000], "temperature_range": [-60, 60]}
        ingest = step("ingest:csv", timeout=20, retries=2, config={"columns": columns})()
        clean = step("clean:energy", after=ingest, timeout=20, retries=2,
                     config={"sources": ["Fossil Fuels", "Nuclear Energy", "Renewables"], **ranges})()
        fit = {"forecast_year": 2018, "renewables": ["Renewables"], "resamples": 20000, "seed": 2018}
        trend = step("trend:least_squares", after=clean, timeout=60, retries=2, config=fit)()
        heating = step("heating:degree_days", after=trend, timeout=20, retries=2, config={"base_celsius": 18})()
        return step("report:energy", after=heating, timeout=20, retries=2)()

    written = Pipeline.from_json(EXAMPLES / "energy" / "pipeline.json")
    assert energy.document == written.document
    assert energy.edges == written.edges == [("ingest", "clean"), ("clean", "trend"), ("trend", "heating"), ("heating", "report")]


def test_the_fanout_pipeline_in_python_is_the_document():
    @pipeline(
        version="1",
        description="Electricity by source: one trend for each, side by side; whatever happens, nothing is left behind",
        aliases={"fit": "trend:line@^1.0"},
    )
    def fanout(
        electricity: Annotated[str, "CSV file with year, source and net_generation"],
        folder: Annotated[str, "where the parts lie while they are needed"],
        year: Annotated[int, "the year to forecast"] = 2018,
    ):
        here = f"{folder}/run-{this_run.id}"
        split = step("split:csv", on_failure="continue")(file=electricity, folder=here)
        trend = step("fit", name="trend", retries=1, on_failure="continue").map(split.parts, source=item.source, file=item.file, year=year)
        compare = step("compare:trends", on_failure="continue")(trend)
        step("warn:log", when=length(compare.falling) > 0)(f"falling: {compare.falling}")
        step("remove:folder", name="cleanup", after=[split, trend, compare], join="all_done")(here)
        return compare

    written = Pipeline.from_json(EXAMPLES / "fanout" / "pipeline.json")
    assert fanout.document == written.document
    assert fanout.edges == written.edges


def test_a_chain_is_written_as_one_until_something_else_is_said():
    def chain(**options):
        @pipeline
        def made():
            first = step("a:x")()
            return step("b:x", after=first, **options)()

        made.validate()
        return made.document

    assert chain() == {
        "name": "made",
        "start_node": "a",
        "steps": [{"name": "a", "capability": "a:x", "next_node": "b"}, {"name": "b", "capability": "b:x"}],
    }
    for options in ({"priority": 3}, {"version": "^1"}, {"join": "all_done"}):
        assert chain(**options)["steps"][1]["depends_on"] == ["a"]


# ---- arguments ----


def test_arguments_become_the_input_in_the_way_of_the_task():
    def made(width: int):
        resize(Job("a.png", width))
        resize({"file": "b.png"})
        tell([1, {"a": width}])
        beat()
        step("any:thing")()
        step("any:thing")(b"\x00")
        step("any:thing")(x=1, y=Job("c"))

    inputs = [s.get("input", "none") for s in steps(made).values()]
    assert inputs == [
        {"file": "a.png", "width": "${params.width}"},
        {"file": "b.png"},
        [1, {"a": "${params.width}"}],
        {},
        "none",
        "AA==",
        {"x": 1, "y": {"file": "c", "width": 640}},
    ]


def test_texts_are_texts_unless_a_reference_stands_in_them():
    def made(p: str):
        tell("${params.p} $ $$ ${ $${x} {y} $")
        tell(f"{p}")
        tell(f"${p}$$")
        tell(f"{p:}/{p}.csv")
        tell(f"{{{p}}}")

    inputs = [s["input"] for s in steps(made).values()]
    assert inputs == [
        "$${params.p} $ $$ $${ $$$${x} {y} $",
        "${params.p}",
        "$$${params.p}$$",
        "${params.p}/${params.p}.csv",
        "{${params.p}}",
    ]


def test_parts_of_outputs():
    def made():
        o = tell(1)
        tell([o.rows, o["rows"], o.rows[3]["any key"], o["_x"], o["a}b"], o.items.keys, o["ä"], o[0]])

    assert steps(made)["tell_2"]["input"] == [
        "${steps.tell.output.rows}",
        "${steps.tell.output.rows}",
        '${steps.tell.output.rows[3]["any key"]}',
        "${steps.tell.output._x}",
        '${steps.tell.output["a\\u007db"]}',
        "${steps.tell.output.items.keys}",
        '${steps.tell.output["ä"]}',
        "${steps.tell.output[0]}",
    ]


def test_maps():
    def made(files: List[str], jobs: List[Job]):
        numbers = tell([1, 2])
        square.map(numbers)
        square.map(numbers, 5)
        square.map([1, numbers[0]], add=index)
        square.map(range(2), n=1, add=item)
        square.options(parallel=2, name="few").map(numbers)
        resize.map(jobs)
        step("any:thing").map(files)
        step("any:thing").map(files, file=item, at=index)
        step("any:thing").map(files, file=f"{item}.png")

    made = list(steps(made).values())[1:]
    assert [(s["map"], s["input"]) for s in made] == [
        ("${steps.tell.output}", {"n": "${item}"}),
        ("${steps.tell.output}", {"n": "${item}", "add": 5}),
        ([1, "${steps.tell.output[0]}"], {"n": "${item}", "add": "${index}"}),
        ([0, 1], {"n": 1, "add": "${item}"}),
        ("${steps.tell.output}", {"n": "${item}"}),
        ("${params.jobs}", "${item}"),
        ("${params.files}", "${item}"),
        ("${params.files}", {"file": "${item}", "at": "${index}"}),
        ("${params.files}", {"file": "${item}.png"}),
    ]
    assert made[4]["name"] == "few" and made[4]["map_parallel"] == 2


def test_conditions():
    def made(flag: bool, n: int, mode: Literal["dry", "wet"]):
        o = tell(1)
        conditions = [
            flag,
            ~flag,
            o.rows > 0,
            3 <= o.rows,
            mode == "dry \"x\"",
            o.x != None,  # noqa: E711
            True == o.x,  # noqa: E712
            (n > 1) & (n < 5.5) & flag,
            (n > 1) & ((n < 5) | ~(mode == "wet")),
            (n > 1) | flag & exists(o.x),
            ~(exists(o["a b"]) & flag),
            (n == 1) == flag,
            length(o.files) == length(o.names),
            mode == Mode.WET,
        ]
        for condition in conditions:
            beat.options(when=condition)()

    assert [s["when"] for s in list(steps(made).values())[1:]] == [
        "params.flag",
        "!params.flag",
        "steps.tell.output.rows > 0",
        "steps.tell.output.rows >= 3",
        'params.mode == "dry \\"x\\""',
        "steps.tell.output.x != null",
        "steps.tell.output.x == true",
        "params.n > 1 && params.n < 5.5 && params.flag",
        'params.n > 1 && (params.n < 5 || !(params.mode == "wet"))',
        "params.n > 1 || params.flag && exists(steps.tell.output.x)",
        '!(exists(steps.tell.output["a b"]) && params.flag)',
        "params.flag == (params.n == 1)",
        "len(steps.tell.output.files) == len(steps.tell.output.names)",
        'params.mode == "wet"',
    ]


def test_options_are_keys_of_the_step():
    def made():
        first = beat()
        beat.options(
            name="all",
            after=[first],
            join="all_done",
            retries=4,
            retry_delay=0.5,
            retry_delay_max=3,
            timeout=2,
            on_failure="continue",
            priority=7,
            placement=Placement(
                zone="aws", gpu="forbidden", labels={"disk": {"not": "hdd"}, "old": False}, resources={"cpu_milli": 500}, prefer="local"
            ),
            version=">=1.2 <2",
            cache=True,
            config={"a": [1, None]},
            description="for people",
        )()
        load.options(retries=None, cache=2.5).options(timeout=1)("p")
        beat.options(cache=False, placement=Placement())()

    found = steps(made)
    assert found["all"] == {
        "name": "all",
        "capability": "beat:drum@>=1.2 <2",
        "depends_on": ["beat"],
        "join": "all_done",
        "input": {},
        "config": {"a": [1, None]},
        "on_failure": "continue",
        "priority": 7,
        "description": "for people",
        "attempts_max": 5,
        "timeout_ms": 2000,
        "retry": {"delay_ms": 500, "delay_max_ms": 3000},
        "placement": {
            "zone": "aws",
            "labels": {"disk": {"not": "hdd"}, "old": False},
            "gpu": "forbidden",
            "resources": {"cpu_milli": 500},
            "prefer": "local",
        },
        "cache": True,
    }
    assert found["load"] == {
        "name": "load", "capability": "load:rows", "input": {"path": "p"}, "attempts_max": 2, "timeout_ms": 1000, "cache": {"ttl_ms": 2500},
    }
    assert found["beat_2"] == {"name": "beat_2", "capability": "beat:drum", "input": {}}


class Mode(enum.Enum):
    DRY = "dry"
    WET = "wet"


def test_params_come_from_type_hints():
    @pipeline
    def made(
        a,
        b: str,
        /,
        c: int,
        d: float,
        e: Dict[str, int],
        f: Job,
        g: Optional[str],
        h: "List[int]" = [1],
        i: Optional[int] = None,
        j: Mode = Mode.WET,
        k: Any = None,
        *,
        m: Job = Job("x"),
        n: Annotated[Optional[bool], "whether"] = True,
    ):
        tell([a, b, c, d, e, f, g, h, i, j, k, m, n])

    made.validate()
    assert made.document["params"] == {
        "a": {"required": True},
        "b": {"type": "string", "required": True},
        "c": {"type": "integer", "required": True},
        "d": {"type": "number", "required": True},
        "e": {"type": "object", "required": True},
        "f": {"type": "object", "required": True},
        "g": {"required": True},
        "h": {"type": "array", "default": [1]},
        "i": {"type": "integer"},
        "j": {"type": "string", "default": "wet"},
        "k": {},
        "m": {"type": "object", "default": {"file": "x", "width": 640}},
        "n": {"type": "boolean", "default": True, "description": "whether"},
    }


def test_pipelines_in_pipelines():
    @pipeline
    def below(numbers: List[int], scale: int = 1):
        return total(numbers)

    def made(many: List[List[int]]):
        a = below([1, 2], scale=3)
        b = below.map(many)
        c = step(pipeline="elsewhere", description="x")(x=a)
        below.options(name="last", when=a > 0, after=c)(b)

    assert list(steps(made).values()) == [
        {"name": "below", "pipeline": "below", "input": {"numbers": [1, 2], "scale": 3}},
        {"name": "below_2", "pipeline": "below", "map": "${params.many}", "input": {"numbers": "${item}"}},
        {
            "name": "elsewhere",
            "pipeline": "elsewhere",
            "depends_on": ["below"],
            "input": {"x": "${steps.below.output}"},
            "description": "x",
        },
        {
            "name": "last",
            "pipeline": "below",
            "depends_on": ["below", "below_2", "elsewhere"],
            "when": "steps.below.output > 0",
            "input": {"numbers": "${steps.below_2.output}"},
        },
    ]
    assert pipeline(made).tasks == [total]


def test_building_is_each_threads_own():
    """A task that a pipeline's function runs as a function does not see the pipeline."""
    seen = []

    @pipeline
    def made():
        thread = threading.Thread(target=lambda: seen.append(square(3)))
        thread.start()
        thread.join()
        beat()

    assert len(made.steps) == 1 and seen == [9]


def test_a_task_that_is_called_loads_nothing_of_this():
    text = (
        "import sys, pipeorch\n"
        "f = pipeorch.task('a:b')(lambda x: x)\n"
        "assert f(3) == 3\n"
        "assert not [m for m in sys.modules if m in ('pipeorch.pipelines', 'pipeorch._steps', 'pipeorch._expr', 'inspect')]"
    )
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)
