"""Pipelines written as Python functions: the documents that they become, and what is said of functions that are wrong."""

import dataclasses
import enum
import json
import pathlib
import sys
import subprocess
from typing import Annotated, Any, Dict, List, Literal, Optional

import pytest

import pipeorch
from pipeorch import (
    InvalidPipeline,
    Pipeline,
    Placement,
    error_of,
    errors,
    exists,
    index,
    item,
    length,
    pipeline,
    state_of,
    step,
    task,
    this_run,
)

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
DOCUMENTS = sorted(path for path in EXAMPLES.rglob("*.json") if "steps" in json.loads(path.read_text()))


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


def test_a_document_is_a_copy_and_built_once():
    calls = []

    @pipeline
    def once():
        calls.append(1)
        beat()

    once.document["steps"].clear()
    assert len(once.document["steps"]) == 1 and once.to_json() == once.to_json() and calls == [1]


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
    import threading

    seen = []

    @pipeline
    def made():
        thread = threading.Thread(target=lambda: seen.append(square(3)))
        thread.start()
        thread.join()
        beat()

    assert len(made.steps) == 1 and seen == [9]


# ---- misuse ----


def line_of(fn, text):
    import inspect

    lines, first = inspect.getsourcelines(fn)
    return f"test_pipelines.py:{first + next(i for i, line in enumerate(lines) if text in line)}"


@pytest.mark.parametrize(
    "use, said",
    [
        (lambda o: 1 if o else 2, "if, and, or, not and chained comparisons need the truth of the output of step 'tell'"),
        (lambda o: o.a and o.b, "which is not known while the pipeline is built; give the step a condition, task.options(when=...)(...)"),
        (lambda o: not o.a, "made with &, | and ~ and parentheses around each comparison"),
        (lambda o: 1 < o.a < 3, "chained comparisons need the truth of the condition steps.tell.output.a > 1"),
        (lambda o: [x for x in o.rows], "a loop goes over the output of step 'tell' (steps.tell.output.rows)"),
        (lambda o: "a" in o, "in looks into the output"),
        (lambda o: o in ["a"], "need the truth of the condition"),
        (lambda o: o in {"a"}, "a set, or a dict for its keys, compares the output"),
        (lambda o: {o: 1}, "a set, or a dict for its keys"),
        (lambda o: len(o), "in a condition, write length(...)"),
        (lambda o: o + 1, "an operator computes with the output"),
        (lambda o: "a" + o, 'put texts together as in f"{...}.csv"'),
        (lambda o: -o.n, "compute in a task"),
        (lambda o: o.name.upper(), "a call is made on the output of step 'tell' (steps.tell.output.name.upper)"),
        (lambda o: int(o), "a conversion needs the output"),
        (lambda o: f"{o:>10}", "the format '>10' is for the output"),
        (lambda o: f"{o > 1}", "a text is made of the condition steps.tell.output > 1"),
        (lambda o: o.__await__(), "leave await out"),
        (lambda o: o[-1], "-1 names no part of the output of step 'tell' (steps.tell.output); expected a text, or a whole"),
        (lambda o: o[1:2], "slice(1, 2, None) names no part"),
        (lambda o: o[f"{o}"], "'{steps.tell.output}' names no part"),
        (lambda o: o == [1], "a condition compares with [1]; expected a text, a number, True, False, None"),
        (lambda o: o == f"{o}x", "has references in it, and a condition compares with whole values"),
        (lambda o: o.a > 0 & o.b, "& and | join conditions, and 0 is none; they bind more tightly than comparisons"),
        (lambda o: length("x"), "length() is given 'x'; expected an output, a param, or a part of one"),
        (lambda o: state_of(o.part), "state_of() is given the output of step 'tell' (steps.tell.output.part); expected the output"),
    ],
)
def test_what_needs_the_value_is_refused_with_a_way_out(use, said):
    def made():
        use(tell(1))

    assert said in refused(made, TypeError)


def test_attributes_that_tools_look_for_are_not_there():
    @pipeline
    def made():
        o = tell(1)
        assert not hasattr(o, "_repr_html_") and not hasattr(o, "__array__")
        assert repr(o.a) == "<steps.tell.output.a>" and repr(o > 1) == "<steps.tell.output > 1>"

    made.document


@pytest.mark.parametrize(
    "use, kind, said",
    [
        (lambda o: square(1, ad=2), TypeError, "square() has no parameter 'ad'; the nearest is \"add\""),
        (lambda o: square(), TypeError, "square() needs 'n', which is missing"),
        (lambda o: square(1, 2, 3), TypeError, "square() takes 2 positional arguments (n, add), but 3 were given"),
        (lambda o: square("x"), TypeError, 'square: at /n: expected an integer, found the string "x"'),
        (lambda o: square(o.a, add=1.5), TypeError, "square: at /add: expected an integer, found the number 1.5"),
        (lambda o: total([1, "x"]), TypeError, 'total: at /numbers/1: expected an integer, found the string "x"'),
        (lambda o: resize({"fil": "a"}), TypeError, "no member of that name is known; the nearest is \"file\""),
        (lambda o: square(o, retries=3), TypeError, "the option of a step is given before the call: square.options(retries=...)(...)"),
        (lambda o: step("a:b@1", version="2")(), errors.InvalidArgument, "'a:b@1' names its versions already"),
        (lambda o: square.options(parallel=2)(1), TypeError, "the option 'parallel' is for map(...), and this is a call"),
        (lambda o: square.options(when=True)(1), errors.InvalidArgument, "when is True (Python has computed it already"),
        (lambda o: square.options(when="o > 1")(1), errors.InvalidArgument, "when is 'o > 1'; expected a condition such as"),
        (lambda o: square.options(after="tell")(1), errors.InvalidArgument, "after has 'tell'; expected the output of a step"),
        (lambda o: square.options(after=beat)(1), errors.InvalidArgument, "it is not called yet"),
        (lambda o: square(beat), errors.InvalidArgument, "beat> is given, which is not called yet; give what its call returns"),
        (lambda o: tell(step("a:b")), errors.InvalidArgument, "which is not called yet"),
        (lambda o: tell({f"{o}": 1}), errors.InvalidArgument, "the name '{steps.tell.output}' of a member has a reference in it"),
        (lambda o: tell(o > 1), errors.InvalidArgument, "the condition steps.tell.output > 1 cannot be part of a value"),
        (lambda o: tell(object()), errors.InvalidArgument, "a value of type object has no JSON form"),
        (lambda o: step("a:b", config={"x": o})(), errors.InvalidArgument, "only arguments can have references in them"),
        (lambda o: step("a:b")(1, 2), TypeError, "takes one value, which is the input, or the members of an object by name"),
        (lambda o: step("a:b")(1, x=2), TypeError, "takes one value"),
        (lambda o: square.map("abc"), TypeError, "square.map() goes over 'abc'; expected an output, a param, a part of one, or a list"),
        (lambda o: square.map(f"{o}"), TypeError, "square.map() goes over '{steps.tell.output}'"),
        (lambda o: square.map({"a": 1}), TypeError, "square.map() goes over {'a': 1}"),
        (lambda o: square.map(o, nn=1), TypeError, "square() has no parameter 'nn'"),
        (lambda o: square(item), errors.InvalidArgument, "item is there in the arguments of task.map(...) only"),
        (lambda o: square.map([item]), errors.InvalidArgument, "item is there in the arguments of task.map(...) only"),
        (lambda o: square.options(when=index == 0).map(o), errors.InvalidArgument, "index is there in the arguments of task.map(...) only"),
        (lambda o: step("a:b", name="tell")(), errors.InvalidArgument, "the name 'tell' is that of the step at test_pipelines.py:"),
        (lambda o: step("a:b", name=7)(), errors.InvalidArgument, "name is 7; expected a text"),
        (
            lambda o: beat.options(when=state_of(o) == "failed")(),
            errors.InvalidArgument,
            "looks at the state of step 'tell' (steps.tell.state), but is skipped unless all steps before it succeeded; give it options(",
        ),
        (lambda o: step(pipeline="p")(1), TypeError, "its params are not known here; give them by name"),
        (lambda o: BELOW(), TypeError, "pipeline 'BELOW' needs 'n', which is missing"),
        (lambda o: BELOW(1, 2), TypeError, "pipeline 'BELOW' has 1 params (n), but 2 values were given"),
        (lambda o: BELOW(m=1), TypeError, "pipeline 'BELOW' has no param 'm'"),
        (lambda o: BELOW(1, n=1), TypeError, "got two values for 'n'"),
        (lambda o: BELOW("x"), TypeError, 'at /n: expected an integer, found the string "x"'),
    ],
)
def test_wrong_calls_are_told_where_they_stand(use, kind, said):
    def made():
        return use(tell(1))

    message = refused(made, kind)
    assert said in message and "(at test_pipelines.py:" in message


@pytest.mark.parametrize(
    "use, kind, said",
    [
        (lambda o: square.options(n=1)(), TypeError, "no option 'n'; the arguments of square go into the call: square.options(...)(...)"),
        (lambda o: square.options(retrys=1), TypeError, "no option 'retrys'; the nearest is \"retries\""),
        (lambda o: square.options(retries=100), errors.InvalidArgument, "retries is 100; expected 0 to 99"),
        (lambda o: square.options(timeout=0), errors.InvalidArgument, "timeout is 0; expected 0.1 to 86400 seconds"),
        (lambda o: square.options(placement="aws"), errors.InvalidArgument, "placement is 'aws'; expected pipeorch.Placement(...)"),
        (lambda o: square.options(placement=Placement(version="1")), errors.InvalidArgument, "give the step options(version=...) instead"),
        (lambda o: step(), TypeError, "a step has a capability"),
        (lambda o: step(square), TypeError, "functions decorated with @task are called as they are"),
        (lambda o: step(pipeline="p", retries=3), TypeError, "the option 'retries' belongs to the steps of pipeline 'p'"),
        (lambda o: BELOW, errors.InvalidArgument, "what it returns: at the top level: <pipeline BELOW> is given, which is not called yet"),
        (lambda o: {"a": item}, errors.InvalidArgument, "pipeline 'made': what it returns: item is there in the arguments of"),
    ],
)
def test_wrong_options_and_results_are_told(use, kind, said):
    def made():
        return use(tell(1))

    assert said in refused(made, kind)


@pipeline("BELOW")
def BELOW(n: int):
    beat()


def test_the_line_of_a_mistake_is_named():
    def made():
        first = tell(1)
        square(
            first, wrong=1
        )

    assert line_of(made, "square(") in refused(made)


def test_a_reference_stays_in_its_pipeline():
    kept = []

    @pipeline
    def one():
        kept.append(tell(1))
        kept.append(f"{kept[0]}!")

    one.document
    uses = [lambda: tell(kept[0]), lambda: tell(kept[1]), lambda: beat.options(when=kept[0] > 1)(), lambda: beat.options(after=kept[0])()]
    for use in uses:

        def made():
            tell(f"{tell(1)}")  # a step of the same name is there, and mentioned
            use()

        assert "steps.tell.output belongs to another pipeline; hand it over as a param of 'made'" in refused(made, errors.InvalidArgument)


def test_what_is_no_pipeline():
    assert "its function calls no task, step(...) or other pipeline" in refused(lambda: None, errors.InvalidArgument)

    async def waits():
        beat()

    def yields():
        yield beat()

    def rest(*args):
        beat()

    def odd(x: object() = 1):  # type: ignore
        beat()

    assert "it can neither wait nor yield" in refused(waits, TypeError)
    assert "it can neither wait nor yield" in refused(yields, TypeError)
    assert "a pipeline declares its params; *args is none" in refused(rest, TypeError)
    assert "odd(): parameter x:" in refused(odd, TypeError)
    with pytest.raises(errors.InvalidArgument, match="decorates 7; expected a function"):
        pipeline(7)
    with pytest.raises(errors.InvalidArgument, match="expected a function"):
        pipeline("x")(square)


def test_steps_outside_of_pipelines_are_refused():
    for call in (lambda: square.options(retries=1)(2), lambda: square.map([1]), lambda: step("a:b")()):
        with pytest.raises(TypeError, match="is called outside of a pipeline; steps are added in a function decorated with @pipeline"):
            call()
    with pytest.raises(TypeError, match=r"called outside of a pipeline; use run\(..., local=True\), run\(..., client=...\) or submit"):
        BELOW(1)


def test_pipelines_that_run_each_other_are_refused():
    @pipeline
    def a():
        b()

    @pipeline
    def b():
        a()

    with pytest.raises(errors.InvalidArgument, match="run each other without end: a -> b -> a"):
        a.validate()

    @pipeline
    def alone():
        alone()

    with pytest.raises(errors.InvalidArgument, match="without end: alone -> alone"):
        alone.validate()

    other = pipeline("BELOW")(lambda: beat())

    @pipeline
    def two():
        BELOW(1)
        other()

    with pytest.raises(errors.InvalidArgument, match="two pipelines that 'two' runs are called 'BELOW'"):
        two.validate()


def test_all_problems_are_listed_with_the_lines_of_the_function():
    @pipeline
    def wrong():
        a = step("Load:x")()
        step("b:x", name="b c", on_failure="go")(a)
        step("c:x", priority=10)(this_run.number)

    with pytest.raises(InvalidPipeline) as e:
        wrong.validate()
    problems = e.value.problems
    assert len(problems) == 5 and f"pipeline 'wrong' has 5 problems:\n  {problems[0]}" in str(e.value)
    by_place = {p.split(":")[0]: p for p in problems}
    assert by_place["/steps/0/capability"].endswith(f"(step 'Load', {line_of(wrong.fn, 'Load:x')})")
    assert by_place["/steps/1/on_failure"].endswith(f"(step 'b c', {line_of(wrong.fn, 'b:x')})")
    assert "is 10; must be 0 to 9" in by_place["/steps/2/priority"]
    assert "run.number" in by_place["/steps/2/input"]
    assert isinstance(e.value, errors.InvalidArgument)


def test_a_document_that_is_wrong_is_told_with_its_lines(tmp_path):
    path = tmp_path / "wrong.json"
    steps = '{"name": "a", "capability": "a:b",\n  "depends_on": ["c"]}, {"name": "b", "capability": "x", "next_node": "b"}'
    path.write_text('{"name": "p",\n "steps": [' + steps + "]}")
    with pytest.raises(InvalidPipeline) as e:
        Pipeline.from_json(path).validate()
    assert all(problem.startswith(f"{path}:3:") for problem in e.value.problems) and len(e.value.problems) == 3
    assert "cycle" in str(e.value)
    for text, said in (
        ("{", "the document:1:2: Expecting property name"),
        ("[]", "the document is an array; expected an object"),
        ('{"a": 1, "a": 2}', 'the key "a" is there twice'),
        ('{"a": 1e999}', "is no JSON"),
    ):
        with pytest.raises(errors.InvalidArgument, match=said):
            Pipeline.from_json(text).to_json()
    with pytest.raises(errors.InvalidArgument, match="is no JSON"):
        Pipeline.from_json({"a": {1, 2}})
    with pytest.raises(InvalidPipeline, match="missing"):
        Pipeline.from_json({}).validate()


def test_a_task_that_is_called_loads_nothing_of_this():
    text = (
        "import sys, pipeorch\n"
        "f = pipeorch.task('a:b')(lambda x: x)\n"
        "assert f(3) == 3\n"
        "assert not [m for m in sys.modules if m in ('pipeorch.pipelines', 'pipeorch._steps', 'pipeorch._expr', 'inspect')]"
    )
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)
