"""Functions that are no pipelines: what is said of them, while they are built, and where."""

import dataclasses
import inspect
import os
import pickle
from typing import Any, Dict, List, Literal, Optional, Tuple, TypedDict

import pytest
from pipeline_tasks import Job, beat, refused, resize, square, steps, tell, total

from pipeorch import InvalidPipeline, Pipeline, Placement, errors, index, item, length, pipeline, state_of, step, task, this_run


@pipeline("BELOW")
def BELOW(n: int):
    beat()


def line_of(fn, text):
    lines, first = inspect.getsourcelines(fn)
    return f"test_pipelines_wrong.py:{first + next(i for i, line in enumerate(lines) if text in line)}"


WRITTEN = Pipeline.from_json({"name": "written", "params": {"n": {"type": "string"}, "m": 7}})


@pytest.mark.parametrize(
    "use, said",
    [
        (lambda o: 1 if o else 2, "if, and, or, not and chained comparisons need the truth of the output of step 'tell'"),
        (lambda o: o.a and o.b, "which is not known while the pipeline is built; give the step a condition, task.options(when=...)(...)"),
        (lambda o: not o.a, "made with &, | and ~ and parentheses around each comparison"),
        (lambda o: 1 < o.a < 3, "chained comparisons need the truth of the condition steps.tell.output.a > 1"),
        (lambda o: [x for x in o.rows], "a loop, or unpacking, goes over the output of step 'tell' (steps.tell.output.rows)"),
        (lambda o: "a" in o, "in looks into the output"),
        (lambda o: o in ["a"], "need the truth of the condition"),
        (lambda o: o in {"a"}, "a set, or a dict for its keys, compares the output"),
        (lambda o: {o: 1}, "a set, or a dict for its keys"),
        (lambda o: len(o), "in a condition, write length(...)"),
        (lambda o: o + 1, "an operator computes with the output"),
        (lambda o: "a" + o, 'put texts together as in f"{...}.csv"'),
        (lambda o: -o.n, "compute in a task"),
        (lambda o: o.name.upper(), "a call is made on the output of step 'tell' (steps.tell.output.name.upper)"),
        (lambda o: o.options(retries=3), "options go before the call: task.options(...)(...)"),
        (lambda o: o.map(square), "to map a task, write task.map(out)"),
        (lambda o: int(o), "a conversion needs the output"),
        (lambda o: os.path.join(o, "a.csv"), "a path is made of the output of step 'tell' (steps.tell.output)"),
        (lambda o: open(o), 'write it as a text, f"{...}/a.csv"'),
        (lambda o: f"{o:>10}", "the format '>10' is for the output"),
        (lambda o: f"{o > 1}", "a text is made of the condition steps.tell.output > 1"),
        (lambda o: o.__await__(), "leave await out"),
        (lambda o: o[-1], "-1 names no part of the output of step 'tell' (steps.tell.output); expected a text, or a whole"),
        (lambda o: o[1:2], "slice(1, 2, None) names no part"),
        (lambda o: o[f"{o}"], "'{steps.tell.output}' names no part"),
        (lambda o: o == [1], "a condition compares with [1]; expected a text, a number, True, False, None"),
        (lambda o: o == Job("a"), "a condition compares with Job(file='a', width=640)"),
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


@pytest.mark.parametrize("change", [str.upper, lambda text: text[:14], lambda text: text[11:], lambda text: text.split("-")])
def test_texts_that_were_changed_after_an_output_was_put_in_are_refused(change):
    def made(param: str):
        tell({"text": change(f"a{param}")})

    assert "that was changed afterwards, as upper(), split() and [:5] do" in refused(made, errors.InvalidArgument)


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
        (lambda o: step("a:b", name="tell")(), errors.InvalidArgument, "the name 'tell' is that of the step at test_pipelines_wrong.py:"),
        (lambda o: step("a:b", name=7)(), errors.InvalidArgument, "name is 7; expected a text"),
        (
            lambda o: beat.options(when=state_of(o) == "failed")(),
            errors.InvalidArgument,
            "looks at the state of step 'tell' (steps.tell.state), but is skipped unless all steps before it succeeded; give it options(",
        ),
        (lambda o: tell(None), errors.InvalidArgument, "tell: the whole input is None, which a step cannot be given"),
        (lambda o: step("a:b")(None), errors.InvalidArgument, "the whole input is None"),
        (lambda o: WRITTEN(o, n=[1]), TypeError, "pipeline 'written' got two values for 'n'"),
        (lambda o: WRITTEN(square(1)), TypeError, "n is the output of step 'square' (steps.square.output), which is an integer"),
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
    assert said in message and "(at test_pipelines_wrong.py:" in message


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
    assert Pipeline.from_json({}).steps == [] and Pipeline.from_json({}).edges == []
    with pytest.raises(errors.InvalidArgument, match="too many arrays and objects inside of each other"):
        Pipeline.from_json("[" * 200000)
    with pytest.raises(errors.InvalidArgument, match="the document is no UTF-8"):
        Pipeline.from_json(b"\xff")
    assert pickle.loads(pickle.dumps(e.value)).problems == e.value.problems


# ---- what type hints tell before anything runs ----


class Row(TypedDict):
    name: str
    price: float


@dataclasses.dataclass
class Table:
    rows: List[Row]
    count: int
    owner: Optional[Job] = None
    pair: Tuple[int, str] = (1, "a")
    more: Dict[str, int] = dataclasses.field(default_factory=dict)


@task("make:table")
def table() -> Table:
    return Table([], 0)


@task("name:it")
def name_it(name: str, price: float = 1.0) -> Optional[str]:
    return name


@pipeline("typed")
def typed(job: Job, n: int, mode: Literal["dry", "wet"] = "wet"):
    beat()


def test_what_type_hints_allow_is_allowed():
    def made(job: Job, n: int, anything: Any):
        t = table()
        name_it(t.rows[0].name, t.rows[3]["price"])
        name_it(t.owner.file, t.count)  # a part of what may be null; a whole number where any is taken
        name_it(t.pair[1], t.more.whatever)
        name_it(f"{t.count} rows")
        square(f"{n}")  # a text that is one reference and nothing else is the value
        square(t.rows[0].price)  # it may be a whole one
        resize(job)
        resize(Job(job.file, n))
        resize.map([job, anything.x.y])
        name_it.map(t.rows, name=item.name)
        name_it(name_it("a"))
        names = name_it.map(["a"])
        tell(names[0])
        number, text = t.pair
        name_it(text, number)
        total(square.map([n]))
        typed(t.owner, t.pair[0], job.file)
        assert dir(t) == ["count", "more", "owner", "pair", "rows"] and dir(anything) == []

    steps(made)


@pytest.mark.parametrize(
    "use, kind, said",
    [
        (lambda t, j, n: t.row, AttributeError, "step 'table' (steps.table.output) has no part 'row'; the nearest is \"rows\""),
        (lambda t, j, n: t.options(retries=1), AttributeError, "has no part 'options'; options go before the call: task.options(...)(...)"),
        (lambda t, j, n: t["row"], LookupError, "has no part 'row'; the nearest is \"rows\""),
        (lambda t, j, n: t.rows[0].prize, AttributeError, "(steps.table.output.rows[0]) has no part 'prize'; the nearest is \"price\""),
        (lambda t, j, n: t.rows.first, AttributeError, "(steps.table.output.rows) is an array and has no part 'first'"),
        (lambda t, j, n: t[0], LookupError, "is an object and has no part 0"),
        (lambda t, j, n: t.count.real, AttributeError, "(steps.table.output.count) is an integer and has no part 'real'"),
        (lambda t, j, n: t.pair[2], LookupError, "has 2 elements and no part 2"),
        (lambda t, j, n: t.more.x.y, AttributeError, "is an integer and has no part 'y'"),
        (lambda t, j, n: t.owner.fil, AttributeError, "has no part 'fil'; the nearest is \"file\""),
        (lambda t, j, n: j.fil, AttributeError, "the param 'job' (params.job) has no part 'fil'; the nearest is \"file\""),
        (lambda t, j, n: n.bit_length(), AttributeError, "the param 'n' (params.n) is an integer and has no part 'bit_length'"),
        (lambda t, j, n: square(t.rows), TypeError, "square: n is the output of step 'table' (steps.table.output.rows), which is an"),
        (lambda t, j, n: square(f"{n}!"), TypeError, "square: n is a text; expected an integer"),
        (lambda t, j, n: resize(n), TypeError, "which is an integer; expected an object"),
        (lambda t, j, n: total.map(t.rows), TypeError, "numbers is an element of the map (item), which is an object; expected an array"),
        (lambda t, j, n: square.map(t.count), TypeError, "square.map() goes over the output of step 'table' (steps.table.output.count)"),
        (lambda t, j, n: square(beat()), TypeError, "which is null; expected an integer"),
        (lambda t, j, n: square(square.map([1])), TypeError, "which is an array; expected an integer"),
        (lambda t, j, n: typed(j, t.rows), TypeError, "pipeline 'typed': n is the output of step 'table' (steps.table.output.rows)"),
        (lambda t, j, n: typed(j, 1, n), TypeError, "which is an integer; expected a string"),
        (lambda t, j, n: square(state_of(t).x), AttributeError, "is a string and has no part 'x'"),
    ],
)
def test_what_type_hints_rule_out_is_told_while_the_pipeline_is_built(use, kind, said):
    def made(job: Job, n: int):
        use(table(), job, n)

    assert said in refused(made, kind)
