"""Type hints as JSON Schema, and values on their way through JSON.

What `encode` makes of a value must be allowed by the schema of its type and come back equal; what a type refuses, its
schema refuses where it can say so. The schemas are judged by jsonschema, and by the validator of libpipeorch where a
build of it is at hand.
"""

import asyncio
import collections
import ctypes
import dataclasses
import datetime
import decimal
import enum
import functools
import json
import math
import os
import pathlib
import pickle
import random
import subprocess
import sys
import time
import typing
import uuid
from typing import Any, Dict, FrozenSet, List, Literal, Mapping, NamedTuple, NewType, Optional, Sequence, Set, Tuple, TypeVar, Union

import pytest

from pipeorch import schema
from pipeorch.schema import EncodeError, InputError, bind, dumps, encode, schema_of, signature_of

jsonschema = pytest.importorskip("jsonschema")
pydantic = pytest.importorskip("pydantic")
from typing_extensions import Annotated, NotRequired, TypedDict  # noqa: E402  (comes with pydantic)

T = TypeVar("T")
UserId = NewType("UserId", int)


class Context:
    """Stands for the class of the module pipeorch.context, which is known by its name."""


Context.__module__ = "pipeorch.context"


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Mixed(enum.Enum):
    NUMBER = 1
    PAIR = (1, 2)
    NOTHING = None


@dataclasses.dataclass
class Box:
    width: int
    height: float = 1.0
    tags: List[str] = dataclasses.field(default_factory=list)
    color: Optional[Color] = None


@dataclasses.dataclass
class Tree:
    name: str
    children: "List[Tree]" = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Square:
    side: int
    area: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        if self.side < 0:
            raise ValueError("a side is not negative")
        self.area = self.side**2


@dataclasses.dataclass(frozen=True)
class Pair(typing.Generic[T]):
    left: T
    right: "Optional[Pair[T]]" = None


class Point(NamedTuple):
    x: int
    y: int = 0


class Options(TypedDict):
    name: str
    level: NotRequired[int]


class Text(str):
    pass


class Inner(pydantic.BaseModel):
    when: datetime.datetime
    code: str = pydantic.Field(pattern="^[a-z]+$", max_length=5)


class Model(pydantic.BaseModel):
    title: str = pydantic.Field(alias="Title")
    inner: Inner
    more: List["Model"] = []
    scores: Dict[str, float] = {}


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    name: str = pydantic.Field(default="Rex", pattern="^[A-Z]")


class Home(pydantic.BaseModel):
    pet: Union[Cat, Dog] = pydantic.Field(discriminator="kind")
    by_code: Dict[Annotated[str, pydantic.Field(pattern="^x")], int] = {}
    price: decimal.Decimal = decimal.Decimal(1)


def texts(r: random.Random) -> str:
    return "".join(r.choice("aZ09 /~\"\\\n\u00e9\u20ac\U0001f600\x01") for _ in range(r.randrange(6)))


def dates(r: random.Random) -> datetime.datetime:
    zone = r.choice([None, datetime.timezone.utc, datetime.timezone(datetime.timedelta(hours=-3, minutes=-30))])
    micros = r.choice([0, 5, 120000, 999999])
    return datetime.datetime(r.randint(1, 9999), 2, r.randint(1, 28), r.randrange(24), 59, r.randrange(60), micros, zone)


def several(make: Any) -> Any:
    return lambda r: [make(r) for _ in range(r.randrange(4))]


def number(r: random.Random) -> float:
    return r.choice([0.0, -0.5, 1e300, 5e-324, r.random(), float(r.randrange(100))])


def integer(r: random.Random) -> int:
    return r.choice([0, -1, 2**31, 2**63, -(2**70), r.randrange(1000)])


def box(r: random.Random) -> Box:
    return Box(integer(r), number(r), several(texts)(r), r.choice([None, *Color]))


def tree(r: random.Random) -> Tree:
    return Tree(texts(r), [tree(r) for _ in range(r.choice([0, 0, 0, 1, 2]))])


def options(r: random.Random) -> Any:
    return {"name": texts(r), **({"level": 3} if r.random() < 0.5 else {})}


def model(r: random.Random) -> Model:
    inner = Inner(when=dates(r).replace(tzinfo=datetime.timezone.utc), code="abc")
    return Model(Title=texts(r), inner=inner, more=[model(r)] if r.random() < 0.3 else [], scores={"a": number(r)})


# (type, what makes a value of it)
ROUND_TRIPS: List[Tuple[Any, Any]] = [
    (int, integer),
    (float, number),
    (str, texts),
    (bool, lambda r: r.random() < 0.5),
    (None, lambda r: None),
    (Any, lambda r: r.choice([1, "x", None, [1, {"a": 2.5}], {}])),
    (object, lambda r: {"a": [1]}),
    (bytes, lambda r: bytes(r.randrange(256) for _ in range(r.randrange(9)))),
    (bytearray, lambda r: bytearray(b"\x00\xff")),
    (datetime.datetime, dates),
    (datetime.date, lambda r: dates(r).date()),
    (datetime.time, lambda r: dates(r).timetz()),
    (uuid.UUID, lambda r: uuid.UUID(int=r.getrandbits(128))),
    (decimal.Decimal, lambda r: decimal.Decimal(r.choice(["0", "-1.50", "1E+400", "0.1"]))),
    (pathlib.Path, lambda r: pathlib.Path(r.choice(["a/b.png", "/x", "."]))),
    (pathlib.PurePosixPath, lambda r: pathlib.PurePosixPath("a/b")),
    (Color, lambda r: r.choice(list(Color))),
    (Level, lambda r: r.choice(list(Level))),
    (Rights, lambda r: r.choice([Rights.READ, Rights.WRITE, Rights.READ | Rights.WRITE])),
    (Mixed, lambda r: r.choice(list(Mixed))),
    (Literal["a", 1, None, True], lambda r: r.choice(["a", 1, None, True])),
    (Literal["only"], lambda r: "only"),
    (Literal[Color.RED], lambda r: Color.RED),
    (Optional[int], lambda r: r.choice([None, 3])),
    (Union[int, float, str], lambda r: r.choice([1, 1.5, "1"])),
    (Union[Box, Point, List[int]], lambda r: r.choice([box(r), Point(1, 2), [1]])),
    (Union[datetime.date, str], lambda r: r.choice([datetime.date(2024, 2, 29), "tomorrow"])),
    (Union[bool, None], lambda r: r.choice([True, None])),
    (list, lambda r: [1, "a"]),
    (List[float], several(number)),
    (Sequence[Color], several(lambda r: Color.RED)),
    (typing.Deque[int], lambda r: collections.deque([1, 2])),
    (Tuple[int, ...], lambda r: tuple(several(integer)(r))),
    (Tuple[int, str, Optional[Box]], lambda r: (1, "x", r.choice([None, box(r)]))),
    (Tuple[()], lambda r: ()),
    (tuple, lambda r: (1, "x")),
    (Set[str], lambda r: set(several(texts)(r))),
    (FrozenSet[int], lambda r: frozenset(several(integer)(r))),
    (Set[FrozenSet[int]], lambda r: {frozenset([1, 2]), frozenset([3])}),
    (Set[Union[int, str]], lambda r: {1, "a", "b"}),
    (Set[Point], lambda r: {Point(1, 2), Point(2, 1)}),
    (dict, lambda r: {"a": 1}),
    (Dict[str, float], lambda r: {texts(r): number(r) for _ in range(3)}),
    (Mapping[int, str], lambda r: {integer(r): texts(r) for _ in range(3)}),
    (Dict[Color, int], lambda r: {Color.RED: 1}),
    (Dict[Level, int], lambda r: {Level.LOW: 1}),
    (Dict[Literal["x", "y"], int], lambda r: {"x": 1}),
    (Dict[uuid.UUID, Box], lambda r: {uuid.UUID(int=5): box(r)}),
    (Dict[datetime.date, None], lambda r: {datetime.date(2024, 1, 2): None}),
    (Dict[bool, int], lambda r: {True: 1, False: 0}),
    (Dict[float, int], lambda r: {1.5: 1, 2.0: 2}),
    (typing.OrderedDict[str, int], lambda r: collections.OrderedDict(b=1, a=2)),
    (Box, box),
    (Tree, tree),
    (Square, lambda r: Square(3)),
    (Pair[int], lambda r: Pair(1, Pair(2))),
    (Pair[Set[int]], lambda r: Pair({1}, Pair({2}))),
    (Pair[Pair[Color]], lambda r: Pair(Pair(Color.RED), Pair(Pair(Color.GREEN)))),
    (Point, lambda r: Point(1, 2)),
    (collections.namedtuple("Loose", "a b"), None),
    (Options, options),
    (List[Options], several(options)),
    (UserId, lambda r: UserId(7)),
    (T, lambda r: [1]),
    (Annotated[int, "no limit"], integer),
    (Annotated[List[int], pydantic.Field(min_length=1)], lambda r: [1]),
    (Inner, lambda r: Inner(when=datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc), code="abc")),
    (Model, model),
    (List[Optional[Model]], several(lambda r: r.choice([None, model(r)]))),
    (Home, lambda r: Home(pet=r.choice([Cat(lives=9), Dog()]), by_code={"x1": 1})),
    (Dict[str, Union[Box, Model]], lambda r: {"a": box(r), "b": model(r)}),
]
if sys.version_info >= (3, 10):
    ROUND_TRIPS += [(int | None, lambda r: None), (list[int | str], lambda r: [1, "x"])]
if sys.version_info >= (3, 12):
    _scope: Dict[str, Any] = {}
    exec("type Json = int | str | list[Json] | dict[str, Json]\ntype Short = set[int]", _scope)
    ROUND_TRIPS += [(_scope["Json"], lambda r: {"a": [1, ["x"]]}), (List[_scope["Short"]], lambda r: [{1}, {2}])]


def named(kind: Any) -> str:
    return getattr(kind, "__name__", None) or str(kind).replace("typing.", "")


def decoder(kind: Any) -> Any:
    def handler(value: Any, /) -> None: ...

    handler.__annotations__["value"] = kind
    signature = signature_of(handler)
    return lambda value: signature.decode(value)[0][0]


def allowed(document: Any, value: Any) -> bool:
    return document is None or jsonschema.Draft202012Validator(document).is_valid(value)


# ---- values ----


@pytest.mark.parametrize("kind, make", ROUND_TRIPS, ids=[named(kind) for kind, _ in ROUND_TRIPS])
def test_values_come_back_equal_and_are_what_their_schema_allows(kind, make, library):
    document, decode = schema_of(kind), decoder(kind)
    if document is not None:
        jsonschema.Draft202012Validator.check_schema(document)
        assert library.check(document) == ""
    r = random.Random(7)
    for _ in range(50 if make else 1):
        value = make(r) if make else kind(1, "b")
        text = dumps(value)
        form = json.loads(text)
        assert form == encode(value)
        assert allowed(document, form), (document, form)
        if document is not None:
            assert library.validate(document, text) == ""
        back = decode(form)
        assert back == value and type(back) is type(value) or isinstance(value, float) and back == value
        assert dumps(back) == text


# (type, JSON values that are none of it)
REFUSED: List[Tuple[Any, List[Any]]] = [
    (int, ["1", 1.5, True, None, [], {}]),
    (float, ["1", True, None]),
    (str, [1, None, ["a"]]),
    (bool, [0, 1, "true", None]),
    (None, [0, "", False]),
    (Color, ["RED", "blue", None, 1]),
    (Level, [3, "1", True]),
    (Mixed, [[1], [1, 2, 3], 2, False]),
    (Literal["a", 1], ["b", 2, True, None]),
    (Optional[int], ["x", 1.5, False]),
    (Union[int, str], [1.5, None, [], True]),
    (List[int], [{}, "ab", [1, "x"], [None], 1]),
    (Tuple[int, str], [[1], [1, "a", 2], ["a", 1], None]),
    (Tuple[()], [[1], {}]),
    (Set[int], [[1, 1], ["a"], {}]),
    (Dict[str, int], [[], {"a": "x"}, None]),
    (Dict[Literal["x", "y"], int], [{"z": 1}]),
    (Dict[Level, int], [{"3": 1}, {"LOW": 1}]),
    (Box, [{}, {"width": "1"}, {"width": 1, "hieght": 2}, [1], None, {"width": 1, "color": "blue"}]),
    (Tree, [{"name": "a", "children": [{"name": 1}]}, {"name": "a", "children": [{}]}]),
    (Pair[int], [{"left": "x"}, {"left": 1, "right": {"left": "x"}}]),
    (Square, [{"side": "1"}, {"side": 1, "area": "x"}]),
    (Point, [[1, 2], {"y": 1}, {"x": 1, "z": 2}]),
    (Options, [{}, {"name": "a", "levle": 1}, {"name": "a", "level": "x"}]),
    (Annotated[int, pydantic.Field(ge=1, lt=10)], [0, 10, "1"]),
    (Annotated[float, pydantic.Field(multiple_of=0.1)], [0.35]),
    (Annotated[str, pydantic.Field(min_length=2, max_length=3)], ["a", "abcd", 12]),
    (Annotated[List[int], pydantic.Field(max_length=1)], [[1, 2]]),
    (Annotated[Dict[str, int], pydantic.Field(min_length=1)], [{}]),
    (Annotated[Optional[int], pydantic.Field(ge=1)], [0]),
    (Inner, [{}, {"when": "2024-01-01T00:00:00Z", "code": "abcdef"}, {"when": 1, "code": 2}]),
    (Model, [{"title": "x"}, {"Title": "x", "inner": {}}, []]),
    (Home, [{"pet": {"kind": "cow"}}, {"pet": {"kind": "cat"}}, {"pet": {"kind": "cat", "lives": "many"}}]),
]


@pytest.mark.parametrize("kind, values", REFUSED, ids=[named(kind) for kind, _ in REFUSED])
def test_what_a_type_refuses_its_schema_refuses(kind, values, library):
    document, decode = schema_of(kind), decoder(kind)
    for value in values:
        assert not allowed(document, value), value
        assert library.validate(document, dumps(value)) != ""
        with pytest.raises(InputError):
            decode(value)


@pytest.mark.parametrize(
    "kind, value",
    [
        (bytes, "not base64!"),
        (datetime.datetime, "yesterday"),
        (datetime.date, "2024-02-30"),
        (datetime.time, "25:00"),
        (uuid.UUID, "1234"),
        (decimal.Decimal, "one"),
        (Rights, 64),
        (Square, {"side": -1}),
        (Dict[int, str], {"x": "y"}),
        (Dict[int, str], {"1": "a", "1.0": "b"}),
        (Set[List[int]], [[1]]),
        (float, 10**400),
        (Inner, {"when": "2024-01-01T00:00:00Z", "code": "A"}),
    ],
    ids=str,
)
def test_what_only_the_worker_checks(kind, value):
    assert allowed(schema_of(kind), value)
    with pytest.raises(InputError):
        decoder(kind)(value)


def test_limits_hold_what_they_allow():
    assert decoder(Annotated[float, pydantic.Field(multiple_of=0.1)])(0.3) == 0.3
    assert decoder(Annotated[Optional[int], pydantic.Field(ge=1)])(None) is None
    kind = Annotated[decimal.Decimal, pydantic.Field(gt=0)]
    assert schema_of(kind) == {"type": "string", "format": "decimal"}  # the number is in a string
    assert decoder(kind)("0.5") == decimal.Decimal("0.5")
    with pytest.raises(InputError, match='the string "-1" is not above 0'):
        decoder(kind)("-1")


def test_numbers_of_json_schema_are_taken():
    assert decoder(int)(3.0) == 3 and type(decoder(int)(3.0)) is int
    assert type(decoder(float)(3)) is float
    assert decoder(Literal[1, 2])(1.0) == 1
    assert type(decoder(Union[int, float])(1)) is int and type(decoder(Union[float, int])(1)) is int


@pytest.mark.parametrize(
    "text", ["2024-05-06T07:08:09Z", "2024-05-06T07:08:09.5Z", "2024-05-06T07:08:09.123456789+02:00", "2024-05-06T07:08:09"]
)
def test_times_of_other_languages(text):
    assert decoder(datetime.datetime)(text).hour == 7


def test_no_schema_where_everything_is_allowed():
    assert [schema_of(kind) for kind in (Any, object, T, Optional[Any], Annotated[Any, 1])] == [None] * 5
    assert schema_of(List[Any]) == {"type": "array"}


def test_records_of_one_name_are_told_apart(library):
    def make() -> Any:
        @dataclasses.dataclass
        class Same:
            a: int

        class Other(pydantic.BaseModel):
            b: int

        Other.__name__ = "Same"
        return Same, Other

    one, model_one = make()
    two, _ = make()
    document = schema_of(Tuple[one, two, model_one, Pair[one], Pair[two], List[Pair[one]]])
    assert library.check(document) == ""
    assert allowed(document, [{"a": 1}, {"a": 1}, {"b": 1}, {"left": {"a": 1}}, {"left": {"a": 1}}, []])
    assert not allowed(document, [{"a": 1}, {"b": 1}, {"b": 1}, {"left": {"a": 1}}, {"left": {"a": 1}}, []])
    assert sorted(document["$defs"]) == ["Pair", "Pair_2", "Same", "Same_2", "Same_3"]


def test_what_pydantic_says_beyond_the_subset_is_taken_out(library):
    for mode in ("validation", "serialization"):
        text = json.dumps(schema_of(Home, mode)) + json.dumps(schema_of(Tuple[Model, Inner], mode))
        assert "pattern" not in text and "discriminator" not in text and "oneOf" not in text
    document = schema_of(Home)
    assert allowed(document, {"pet": {"kind": "dog", "name": "lower"}, "by_code": {"y": 1}})
    with pytest.raises(InputError, match="at /pet/dog/name: Home: String should match pattern"):
        decoder(Home)({"pet": {"kind": "dog", "name": "lower"}})


def test_pydantic_extras_make_a_schema_weaker_and_never_stricter(library):
    class Extra(pydantic.BaseModel):
        model_config = {"json_schema_extra": {"not": {"pattern": "x"}, "unevaluatedProperties": False, "examples": [math.nan]}}
        a: float = math.inf

    document = schema_of(Extra)
    assert library.check(document) == ""
    assert "not" not in document and "examples" not in document and allowed(document, {"a": 1, "b": 2})


# ---- errors ----


@pytest.mark.parametrize(
    "kind, value, message",
    [
        (int, "x", 'at the top level: expected an integer, found the string "x"'),
        (List[Box], [{"width": 1}, {"width": None}], "at /1/width: expected an integer, found null"),
        (Box, {"width": 1, "hieght": 2}, 'at /hieght: no member of that name is known; the nearest is "height"'),
        (Box, {}, 'at the top level: the member "width" is missing'),
        (Box, 3, "at the top level: expected an object (Box), found the number 3"),
        (Dict[str, Dict[str, int]], {"a/b": {"~": []}}, "at /a~1b/~0: expected an integer, found an array"),
        (Color, "blue", 'at the top level: expected one of "red", "green", found the string "blue"'),
        (Literal["x"], 1, 'at the top level: expected "x", found the number 1'),
        (Optional[int], "x", 'at the top level: expected an integer or null, found the string "x"'),
        (Optional[Box], {"width": "x"}, 'at /width: expected an integer, found the string "x"'),
        (Union[Box, Point], {"x": "a"}, 'at /x: expected an integer, found the string "a"'),
        (Tuple[int, str], [1], "at the top level: expected an array of 2 elements, found 1"),
        (Dict[int, str], {"x": "y"}, "at /x: the name of this member is no key: expected an integer"),
        (Square, {"side": -1}, "at the top level: Square refuses its members: a side is not negative"),
        (Set[int], [1, 1], "at the top level: an element is there twice; a set has each once"),
        (str, ["a" * 99], "at the top level: expected a string, found an array"),
        (int, "a" * 99, f'at the top level: expected an integer, found the string "{"a" * 40}..."'),
        (Inner, {"when": "x", "code": 1}, "at /when: Inner: Input should be a valid datetime"),
    ],
    ids=str,
)
def test_errors_name_the_place_and_what_is_expected(kind, value, message):
    with pytest.raises(InputError) as caught:
        decoder(kind)(value)
    assert str(caught.value).startswith(message)
    again = pickle.loads(pickle.dumps(caught.value))  # on its way between processes
    assert (str(again), again.pointer, again.reason) == (str(caught.value), caught.value.pointer, caught.value.reason)


def test_missing_members_name_the_nearest_one_that_is_there():
    def handler(width: int, **others: int) -> None: ...

    with pytest.raises(InputError, match='the member "width" is missing; the nearest is "widht"'):
        signature_of(handler).decode({"widht": 1})


# ---- encoding ----


@pytest.mark.parametrize(
    "value, message",
    [
        (math.nan, "at the top level: nan is no JSON number"),
        ({"a": [1.0, math.inf]}, "at /a/1: inf is no JSON number"),
        ([Box(1, -math.inf)], "at /0/height: -inf is no JSON number"),
        ({"a": object()}, "at /a: a value of type object has no JSON form"),
        ([1, {"x": len}], "at /1/x: a value of type builtin_function_or_method has no JSON form"),
        ({"a": "\ud800"}, "at /a: the string is not Unicode text: character 0 is a lone surrogate"),
        (["a", "b\0"], "at /1: the string has a NUL at character 1; send bytes instead"),
        ({"a": Text("\0")}, "at /a: the string has a NUL"),
        ({"\ud800": 1}, "at the top level: the string is not Unicode text"),
        ({(1, 2): 3}, "at the top level: a key of type tuple cannot be the name of a member"),
        ({1: "a", "1": "b"}, 'at the top level: two keys have the same JSON form "1"'),
        ((i for i in "ab"), "at the top level: a value of type generator has no JSON form"),
        (Model, "at the top level: a value of type"),
        (1 + 2j, "at the top level: a value of type complex has no JSON form"),
    ],
    ids=str,
)
def test_what_has_no_json_form_is_refused_with_its_place(value, message):
    for make in (dumps, encode):
        with pytest.raises(EncodeError) as caught:
            make(value)
        assert str(caught.value).startswith(message)


def test_values_that_contain_themselves_are_refused():
    loop: List[Any] = []
    loop.append({"a": loop})
    for make in (dumps, encode):
        with pytest.raises(EncodeError, match="more than 256 arrays and objects"):
            make(loop)
    deep: Any = 1
    for _ in range(256):
        deep = [deep]
    assert dumps(deep) == b"[" * 256 + b"1" + b"]" * 256
    with pytest.raises(EncodeError):
        dumps([deep])


def test_json_is_compact_utf8():
    assert dumps({"é": [1, 2.5, None, True], "b": {}}) == '{"é":[1,2.5,null,true],"b":{}}'.encode()
    assert dumps("\\u0000") == b'"\\\\u0000"' and dumps("a") == b'"a"' and dumps(None) == b"null" and dumps(10**30) == b"1" + b"0" * 30


def test_sets_are_sorted_so_that_equal_ones_have_equal_bytes():
    assert dumps({"c", "a", "b"}) == b'["a","b","c"]'
    assert encode({2, "a", 10, None}) == ["a", 10, 2, None]
    assert encode(frozenset([Color.RED, Color.GREEN])) == ["green", "red"]


def test_keys_are_written_as_json_does():
    value = {1: "a", True: 2, None: 3, 1.5: 4, Color.RED: 5, Level.HIGH: 6, datetime.date(2024, 1, 2): 7}
    assert json.loads(dumps({key: item for key, item in value.items() if key is not True})) == {
        "1": 2, "null": 3, "1.5": 4, "red": 5, "2": 6, "2024-01-02": 7
    }  # fmt: skip
    assert dumps({True: 1}) == b'{"true":1}'
    assert decoder(Dict[Union[int, str], int])({"1": 2}) == {"1": 2}  # whatever was meant, it is a string as well


def test_subclasses_and_nested_records_do_not_slip_through_the_fast_path():
    class Kind(str, enum.Enum):
        A = "a"

    value = {"p": [Point(1, 2)], "t": (Text("x"), Kind.A), "d": collections.defaultdict(int, a=1), "r": range(2)}
    assert json.loads(dumps(value)) == {"p": [{"x": 1, "y": 2}], "t": ["x", "a"], "d": {"a": 1}, "r": [0, 1]}
    assert type(encode(Text("x"))) is str and type(encode(Level.LOW)) is int


def test_numpy_scalars_are_numbers_and_arrays_are_refused():
    numpy = pytest.importorskip("numpy")
    value = [numpy.float64(1.5), numpy.float32(0.5), numpy.int64(3), numpy.bool_(True), numpy.str_("a"), numpy.array(7)]
    assert json.loads(dumps(value)) == [1.5, 0.5, 3, True, "a", 7]
    assert dumps({"a": numpy.int8(1)}) == b'{"a":1}'
    with pytest.raises(EncodeError, match=r"at /0: numpy.ndarray has no JSON form; call its tolist\(\)"):
        dumps([numpy.zeros(3)])
    with pytest.raises(EncodeError, match="at /a: nan is no JSON number"):
        dumps({"a": numpy.float32("nan")})


def test_classes_can_be_registered():
    class Money:
        def __init__(self, cents: int) -> None:
            self.cents = cents

    def read(value: Any) -> Money:
        if not isinstance(value, int):
            raise ValueError("cents are whole")
        return Money(value)

    with pytest.raises(TypeError, match="Money has no JSON form"):
        schema_of(Money)
    schema.register(Money, encode=lambda money: money.cents, decode=read, schema={"type": "integer"})
    assert schema_of(List[Money]) == {"type": "array", "items": {"type": "integer"}}
    assert decoder(List[Money])([5])[0].cents == 5
    assert dumps({"a": Money(7)}) == b'{"a":7}'
    with pytest.raises(InputError, match="at /0: cents are whole"):
        decoder(List[Money])(["x"])


# ---- handlers ----


def arguments(fn: Any, value: Any, *context: Any) -> Any:
    """What the handler is called with."""
    args, kwargs = signature_of(fn).decode(value, *context)
    return fn(*args, **kwargs)


def test_parameters_are_members():
    def handler(image: pathlib.Path, ctx: Any, top: int = 3, *, when: datetime.date = datetime.date(2024, 1, 1)) -> Any:
        return image, ctx, top, when

    signature = signature_of(handler)
    assert (signature.name, signature.kind, signature.convention) == ("handler()", "plain", "object")
    assert (signature.context, signature.parameters) == ("ctx", ("image", "top", "when"))
    assert signature.output_schema is None
    assert signature.input_schema == {
        "type": "object",
        "properties": {
            "image": {"type": "string", "format": "path"},
            "top": {"type": "integer"},
            "when": {"type": "string", "format": "date"},
        },
        "required": ["image"],
        "additionalProperties": False,
    }
    assert arguments(handler, {"image": "a.png", "when": "2024-05-06"}, "C") == (
        pathlib.Path("a.png"), "C", 3, datetime.date(2024, 5, 6)
    )  # fmt: skip
    assert signature.decode({"image": "a", "top": 1}) == ([], {"image": pathlib.Path("a"), "top": 1})
    with pytest.raises(InputError, match='at /tpo: no member of that name is known; the nearest is "top"'):
        signature.decode({"image": "a", "tpo": 1})
    with pytest.raises(InputError, match=r"expected an object \(the parameters of handler\(\)\), found the string"):
        signature.decode("a")


@pytest.mark.parametrize("kind, form", [(Box, {"width": 1}), (Point, {"x": 1}), (Options, {"name": "a"}), (Pair[int], {"left": 1})])
def test_one_record_is_the_input(kind, form):
    def handler(cfg, ctx: Context):
        return cfg

    handler.__annotations__["cfg"] = kind
    signature = signature_of(handler)
    assert signature.convention == "model"
    assert signature.input_schema == schema_of(kind)
    assert encode(arguments(handler, form, None)).items() >= form.items()


def test_one_pydantic_model_is_the_input_and_the_result():
    def handler(pet: Home) -> Home:
        return pet

    signature = signature_of(handler)
    assert signature.convention == "model"
    assert signature.input_schema["required"] == ["pet"]
    assert signature.input_schema["properties"]["price"]["anyOf"] == [{"type": "number"}, {"type": "string"}]
    assert signature.output_schema["properties"]["price"]["type"] == "string"
    assert allowed(signature.output_schema, encode(Home(pet=Dog())))


def test_one_positional_only_parameter_is_the_input():
    def handler(values: List[int], /, *, ctx: Any = None) -> Any:
        return values, ctx

    def anything(ctx, value, /):
        return ctx, value

    assert signature_of(handler).convention == "value"
    assert signature_of(handler).input_schema == {"type": "array", "items": {"type": "integer"}}
    assert arguments(handler, [1, 2], "C") == ([1, 2], "C")
    assert arguments(handler, [1, 2]) == ([1, 2], None)
    assert signature_of(anything).input_schema is None
    assert arguments(anything, {"a": 1}, "C") == ("C", {"a": 1})


def test_several_positional_only_parameters_are_members():
    def handler(a: int, ctx: Context, b: int = 5, c: int = 6, /, **others: float) -> Any:
        return a, ctx, b, c, others

    assert arguments(handler, {"a": 1, "c": 2, "d": 3}, "C") == (1, "C", 5, 2, {"d": 3.0})
    assert signature_of(handler).input_schema["additionalProperties"] == {"type": "number"}
    with pytest.raises(InputError, match="at /d: expected a number"):
        signature_of(handler).decode({"a": 1, "d": "x"})


def test_free_members_do_not_reach_the_context():
    def handler(*args, ctx, **others):
        return args, ctx, others

    assert "additionalProperties" not in signature_of(handler).input_schema
    assert arguments(handler, {"a": 1}, "C") == ((), "C", {"a": 1})
    with pytest.raises(InputError, match="at /ctx: the worker gives this argument"):
        signature_of(handler).decode({"ctx": 1})


def test_no_parameters_take_nothing_and_null():
    def handler(ctx): ...

    signature = signature_of(handler)
    for value in ({}, None):
        assert signature.decode(value, "C") == ([], {"ctx": "C"})
        assert allowed(signature.input_schema, value)
    assert not allowed(signature.input_schema, {"a": 1}) and not allowed(signature.input_schema, [])


def test_a_default_of_none_takes_null():
    def handler(a: int = None, b: Box = None): ...  # noqa: RUF013

    assert signature_of(handler).decode({"a": None, "b": None}) == ([], {"a": None, "b": None})
    assert signature_of(handler).decode({"a": 1})[1] == {"a": 1}


def test_the_context_is_found():
    def by_class(a: int, c: Context): ...
    def by_name(a: int, ctx: int): ...
    def optional(a: int, c: Optional[Context] = None): ...
    def by_text(a: "int", c: "Elsewhere.Context"): ...  # noqa: F821
    def both(ctx: int, c: Context): ...
    def none(a: int, context: int): ...
    def two(a: Context, b: Context): ...

    class Special(Context):
        pass

    def derived(c: Special): ...

    found = [signature_of(fn).context for fn in (by_class, by_name, optional, by_text, both, none, derived)]
    assert found == ["c", "ctx", "c", "c", "c", None, "c"]
    assert signature_of(both).parameters == ("ctx",)
    with pytest.raises(TypeError, match=r"two\(\) has 2 parameters for the Context \(a, b\)"):
        signature_of(two)


def test_kinds_and_what_they_return():
    def plain(a: int) -> Box: ...
    async def coroutine(a: int) -> Box: ...
    def generator(a: int) -> typing.Generator[int, None, Box]:
        yield 1
        return Box(1)

    def iterator(a: int) -> typing.Iterator[int]:
        yield 1

    async def stream(a: int) -> typing.AsyncIterator[int]:
        yield 1

    def untold(a: int):
        yield 1

    def hands_on(a: int) -> typing.Awaitable[Box]: ...
    def makes(a: int) -> typing.Generator[int, None, Box]: ...
    def nothing(a: int) -> None: ...
    def never(a: int) -> typing.NoReturn: ...

    @functools.wraps(coroutine)
    def wrapped(*args, **kwargs):
        return coroutine(*args, **kwargs)

    box_schema = schema_of(Box)
    assert [(s.kind, s.output_schema) for s in map(signature_of, (plain, coroutine, generator, iterator, stream, untold))] == [
        ("plain", box_schema), ("async", box_schema), ("generator", box_schema), ("generator", None),
        ("async_generator", None), ("generator", None)
    ]  # fmt: skip
    assert [(s.kind, s.output_schema) for s in map(signature_of, (hands_on, makes, nothing, never, wrapped))] == [
        ("async", box_schema), ("generator", box_schema), ("plain", {"type": "null"}), ("plain", None), ("async", box_schema)
    ]  # fmt: skip
    assert asyncio.run(wrapped(1)) is None


def test_methods_partials_and_callable_objects():
    class Service:
        def method(self, a: int, ctx) -> int:
            return a

        async def __call__(self, a: int) -> int:
            return a

        @classmethod
        def make(cls, a: int) -> int:
            return a

    def handler(model: str, a: int, b: int = 2) -> Any:
        return model, a, b

    service = Service()
    assert arguments(service.method, {"a": 1}, None) == 1
    assert arguments(Service.make, {"a": 1}) == 1
    assert signature_of(service).kind == "async" and signature_of(service).parameters == ("a",)
    assert arguments(functools.partial(handler, "m"), {"a": 1}) == ("m", 1, 2)
    fixed = functools.partial(handler, model="m")
    assert arguments(fixed, {"a": 1}) == ("m", 1, 2)
    assert signature_of(fixed).input_schema["required"] == ["a"]
    assert bind(signature_of(fixed), a=1) == {"a": 1}


@pytest.mark.parametrize(
    "annotation, message",
    [
        (typing.Iterator[int], r"handler\(\): parameter a: .*Iterator\[int\] has no JSON form"),
        (random.Random, r"handler\(\): parameter a: random.Random has no JSON form; use a dataclass"),
        ("Missing", r"handler\(\): the annotation 'Missing' of a cannot be resolved: name 'Missing' is not defined"),
        (Dict[Tuple[int, int], str], r"a key of a JSON object is a string and cannot hold an array of 2 elements"),
        (Dict[Box, str], r"a key of a JSON object is a string and cannot hold an object \(Box\)"),
        (enum.Enum, r"enum.Enum has no members"),
    ],
    ids=str,
)
def test_what_cannot_be_an_input_is_refused_at_once(annotation, message):
    def handler(a): ...

    handler.__annotations__["a"] = annotation
    with pytest.raises(TypeError, match=message):
        signature_of(handler)


def test_handlers_that_cannot_be_one():
    def several(*files: str): ...

    @dataclasses.dataclass
    class Holder:
        thing: random.Random

    class Trainer:
        def fit(self, epochs: int): ...

    def nested(a: List[Holder]): ...
    def returns() -> random.Random: ...

    for fn, message in (
        (several, r"several\(\): an input has no place for \*files; take a list instead, files: list"),
        (nested, r"nested\(\): parameter a: Holder.thing: random.Random has no JSON form"),
        (returns, r"returns\(\): what it returns: random.Random has no JSON form"),
        (Box, "a handler is a function or an object with __call__"),
        (3, "a handler is a function or an object with __call__, not 3"),
        (Trainer.fit, r"fit\(\) is a method of Trainer, and a task has no object to call it on; decorate what a task can call"),
    ):
        with pytest.raises(TypeError, match=message):
            signature_of(fn)
    assert signature_of(Trainer().fit).parameters == ("epochs",)


# ---- the side of the client ----


def test_bind_makes_the_input_that_is_decoded():
    def members(image: pathlib.Path, ctx: Context, top: int = 3, *, box: Optional[Box] = None, **more: bytes) -> Any:
        return image, top, box, more

    def record(cfg: Box) -> Any:
        return cfg

    def value(x: Set[int], /) -> Any:
        return x

    for fn, args, kwargs, expected in (
        (members, ("a.png",), {"top": 4}, (pathlib.Path("a.png"), 4, None, {})),
        (members, (pathlib.Path("a"), 1), {"box": Box(1), "x": b"\xff"}, (pathlib.Path("a"), 1, Box(1), {"x": b"\xff"})),
        (members, (), {"image": "a"}, (pathlib.Path("a"), 3, None, {})),
        (record, (Box(2),), {}, Box(2)),
        (record, (), {"cfg": {"width": 3}}, Box(3)),
        (value, ({2, 1},), {}, {1, 2}),
    ):
        signature = signature_of(fn)
        form = json.loads(dumps(bind(signature, *args, **kwargs)))
        assert allowed(signature.input_schema, form)
        context = {"context": None} if signature.context else {}
        got_args, got_kwargs = signature.decode(form, **context)
        assert fn(*got_args, **got_kwargs) == expected


def test_bind_leaves_defaults_to_the_worker_and_sends_those_of_a_whole_input():
    def members(a: int = 1, b: Any = object()): ...
    def record(cfg: Box = Box(7)): ...
    def value(x: int = 4, /): ...

    assert bind(signature_of(members)) == {}
    assert bind(signature_of(record))["width"] == 7
    assert bind(signature_of(value)) == 4


def test_bind_says_what_does_not_fit():
    def handler(image: str, ctx: Any, top: int = 3, *, signature: str = "") -> None: ...

    taken = signature_of(handler)
    assert bind(taken, "a", signature="s") == {"image": "a", "signature": "s"}
    for args, kwargs, message in (
        ((), {}, r"handler\(\) needs 'image', which is missing"),
        (("a",), {"tpo": 1}, "has no parameter 'tpo'; the nearest is \"top\""),
        (("a", 1, 2), {}, r"takes 2 positional arguments \(image, top\), but 3 were given"),
        (("a",), {"image": "b"}, "got two values for 'image'"),
        (("a",), {"ctx": 1}, "gets 'ctx' from the worker that runs it"),
    ):
        with pytest.raises(TypeError, match=message):
            bind(taken, *args, **kwargs)
    with pytest.raises(EncodeError, match="at /top: nan is no JSON number"):
        bind(taken, "a", math.nan)


# ---- cost ----


def test_small_inputs_are_decoded_and_written_quickly():
    """Measured: 1 to 2 microseconds each. The bound is for a loaded machine."""

    def handler(image: str, top: int = 3, threshold: float = 0.5) -> None: ...

    signature, value = signature_of(handler), {"image": "a.png", "top": 4, "threshold": 0.25}
    for work in (lambda: signature.decode(value), lambda: dumps(value)):
        best = math.inf
        for _ in range(20):
            start = time.perf_counter()
            for _ in range(500):
                work()
            best = min(best, (time.perf_counter() - start) / 500)
        assert best < 20e-6


# ---- the library's own validator ----

SHIM = """
#include "codec/schema.h"
#include <stdio.h>
#include <string.h>
int run(const char *schema, const char *value, char *out)
{
    struct po__schema_error e = {0};
    struct po__slice s = po__slice(schema, strlen(schema));
    if (!po__json_ok(s) || (value && !po__json_ok(po__slice(value, strlen(value)))))
        return snprintf(out, 1024, "no JSON");
    int rv = value ? po__schema_validate(s, po__slice(value, strlen(value)), &e) : po__schema_check(s, &e);
    return rv ? snprintf(out, 1024, "at %s: %s (%s)", e.pointer, e.text, e.rule) : 0;
}
"""


class Library:
    """po__schema_check and po__schema_validate; without a build of the library, jsonschema in their place."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def check(self, document: Any) -> str:
        jsonschema.Draft202012Validator.check_schema(document)
        return self._call(document, None) if self.run else ""

    def validate(self, document: Any, value: bytes) -> str:
        if not self.run:
            return "" if allowed(document, json.loads(value)) else "refused"
        return self._call(document, value)

    def _call(self, document: Any, value: Optional[bytes]) -> str:
        out = ctypes.create_string_buffer(1024)
        return out.value.decode() if self.run(dumps(document), value, out) else ""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    root = pathlib.Path(__file__).resolve().parents[2]
    build = pathlib.Path(os.environ.get("BUILD_ROOT", root / "build"))
    archives = [build / "libpipeorch" / layer / f"libpo_{layer}.a" for layer in ("codec", "base")]
    if not all(archive.exists() for archive in archives):
        return Library(None)
    target = tmp_path_factory.mktemp("validator") / "validator.so"
    source = target.with_suffix(".c")
    source.write_text(SHIM)
    include = [f"-I{path}" for path in (root / "libpipeorch", root / "include", build / "include")]
    command = ["cc", "-shared", "-fPIC", "-o", str(target), *include, str(source), *map(str, archives)]
    try:
        made = subprocess.run(command, capture_output=True, timeout=120)
        return Library(ctypes.CDLL(str(target)).run if made.returncode == 0 else None)
    except OSError:  # no compiler, or a build with sanitizers
        return Library(None)
