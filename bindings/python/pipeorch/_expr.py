"""What is known only when a pipeline runs, in the Python function that builds it: outputs of steps, params, elements of a map.

A `Reference` is a path of the pipeline document. It may stand anywhere in the arguments of a step, also in f-strings, and
be compared; a comparison is an `Expression` for a step's `when`. What would need the value while the pipeline is built
(`if`, `for`, arithmetic, a method) raises a TypeError that says what to do instead.

In a text a reference carries a token of this process, so that `${...}` in all other texts stays what it is: text.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, Any, Iterator, List, NoReturn, Optional, Tuple, Union

from . import _encode
from ._encode import EncodeError, encode
from ._shape import Shape

if TYPE_CHECKING:
    from ._steps import Builder

# How tightly an expression holds together: operands that are looser need parentheses.
_OR, _AND, _COMPARISON, _NOT, _OPERAND = range(5)
_SIGNS = {_OR: "||", _AND: "&&"}

_TOKEN = secrets.token_hex(8)
_MARKED = re.compile(r"\$\{" + _TOKEN + r"-(\d+):([^}]*)\}")  # the number of a builder, 0: of none; a path
_DAMAGED = re.compile(rf"{_TOKEN[:8]}|{_TOKEN[8:]}", re.IGNORECASE)  # what is left of one that was cut, or changed to capitals
_NAME = re.compile(r"[A-Za-z0-9_-]+\Z")
_ESCAPED = re.compile(r"\$+(?=\{)")  # dollars that would begin a reference
_AT_END = re.compile(r"\$+(?=\{)|\$+\Z")  # likewise in front of one
_OF_TASKS = {"options": "; options go before the call: task.options(...)(...)", "map": "; to map a task, write task.map(out)"}
_INDEX_MAX = 999999999


class Expression:
    """A value that the pipeline computes when it runs: what a condition is made of.

    Compared by ==, !=, <, <=, >, >= with texts, numbers, booleans, None and other expressions; comparisons are joined by
    & (and), | (or) and ~ (not), in parentheses: `(out.rows > 0) & ~(mode == "dry")`.
    """

    __slots__ = ("_rank", "_text", "_uses")

    def __init__(self, text: str, rank: int, uses: Tuple[Reference, ...]) -> None:
        self._text = text
        self._rank = rank
        self._uses = uses  # the references in it

    def __repr__(self) -> str:
        return f"<{self._text}>"

    def _described(self) -> str:
        return f"the condition {self._text}"

    # ---- conditions ----

    def __eq__(self, other: Any) -> Any:
        return _compared(self, "==", other)

    def __ne__(self, other: Any) -> Any:
        return _compared(self, "!=", other)

    def __lt__(self, other: Any) -> Expression:
        return _compared(self, "<", other)

    def __le__(self, other: Any) -> Expression:
        return _compared(self, "<=", other)

    def __gt__(self, other: Any) -> Expression:
        return _compared(self, ">", other)

    def __ge__(self, other: Any) -> Expression:
        return _compared(self, ">=", other)

    def __and__(self, other: Any) -> Expression:
        return _joined(self, _AND, other)

    def __rand__(self, other: Any) -> Expression:
        return _joined(other, _AND, self)

    def __or__(self, other: Any) -> Expression:
        return _joined(self, _OR, other)

    def __ror__(self, other: Any) -> Expression:
        return _joined(other, _OR, self)

    def __invert__(self) -> Expression:
        return Expression("!" + _within(self, _NOT), _NOT, self._uses)

    # ---- what needs the value ----

    def _unknown(self, what: str, instead: str) -> NoReturn:
        raise TypeError(f"{what} {self._described()}, which is not known while the pipeline is built; {instead}")

    def __bool__(self) -> bool:
        self._unknown(
            "if, and, or, not and chained comparisons need the truth of",
            "give the step a condition, task.options(when=...)(...), made with &, | and ~ and parentheses around each comparison",
        )

    def __iter__(self) -> Iterator[Any]:
        self._unknown("a loop, or unpacking, goes over", "run a task for each element with task.map(...); one part is written out[0]")

    def __len__(self) -> int:
        self._unknown("len() counts", "in a condition, write length(...)")

    def __contains__(self, item: Any) -> bool:
        self._unknown("in looks into", "look into it in a task, which gets the value")

    def __hash__(self) -> int:
        self._unknown("a set, or a dict for its keys, compares", "use it as a value")

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._unknown("a call is made on", "call methods in a task, which gets the value")

    def __await__(self) -> NoReturn:
        self._unknown("await waits for", "leave await out: the steps that use it wait for it")

    def _computed(self, *_: Any) -> NoReturn:
        self._unknown("an operator computes with", 'compute in a task, which gets the value; put texts together as in f"{...}.csv"')

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _computed
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _computed
    __xor__ = __rxor__ = __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = __neg__ = __pos__ = __abs__ = _computed

    def _converted(self, *_: Any) -> NoReturn:
        self._unknown("a conversion needs", "convert in a task, which gets the value")

    __int__ = __float__ = __index__ = __complex__ = __bytes__ = __round__ = _converted

    def __fspath__(self) -> NoReturn:
        self._unknown("a path is made of", 'write it as a text, f"{...}/a.csv", or make it in a task, which gets the value')

    def __str__(self) -> str:
        self._unknown("a text is made of", "a text can have outputs, params and elements of a map in it, but no conditions")

    def __format__(self, spec: str) -> str:
        if spec:
            self._unknown(f"the format {spec!r} is for", "format it in a task, which gets the value")
        return str(self)


class Reference(Expression):
    """A value of the run: the output of a step or a part of it, a param, an element of a map.

    `out.rows`, `out["rows"]` and `out.rows[3]` are parts of `out`; a name that begins with an underscore needs brackets. A part
    that the type hints rule out is refused at once: AttributeError, LookupError. One that is not there when the pipeline runs
    fails the step that asks for it; the condition `exists(out.rows)` asks first. A text that is one reference and nothing
    else, f"{out.count}", is the value itself, of whatever type.
    """

    __slots__ = ("_builder", "_name", "_shape", "_step")

    def __init__(
        self, path: str, name: str, builder: Optional[Builder] = None, step: Optional[str] = None, shape: Optional[Shape] = None
    ) -> None:
        super().__init__(path, _OPERAND, (self,))
        self._name = name  # for people
        self._builder = builder  # None: it means the same in every pipeline
        self._step = step  # whose it is
        self._shape = shape  # None: nothing is known of the value

    def _described(self) -> str:
        return f"{self._name} ({self._text})"

    def _part(self, path: str, key: Union[str, int]) -> Reference:
        """Raises LookupError."""
        try:
            shape = None if self._shape is None else self._shape.part(key)
        except LookupError as e:
            raise LookupError(f"{self._described()} {e}") from None
        return Reference(self._text + path, self._name, self._builder, self._step, shape)

    def __getattr__(self, name: str) -> Reference:
        if name.startswith("_"):
            raise AttributeError(f'a reference has no attribute {name!r}; a part that is called so is written ["{name}"]')
        try:
            return self._part(_part(name), name)
        except LookupError as e:
            raise AttributeError(f"{e}{_OF_TASKS.get(name, '')}") from None

    def __dir__(self) -> List[str]:
        return sorted(self._shape.members) if self._shape else []

    def __getitem__(self, key: Union[str, int]) -> Reference:
        if isinstance(key, str) and not _MARKED.search(key):
            return self._part(_part(key), key)
        if isinstance(key, int) and not isinstance(key, bool) and 0 <= key <= _INDEX_MAX:
            return self._part(f"[{key}]", key)
        raise TypeError(f"{shown(key)} names no part of {self._described()}; expected a text, or a whole number from 0 on")

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        hint = next((hint for name, hint in _OF_TASKS.items() if self._text.endswith("." + name)), "")
        self._unknown("a call is made on", f"call methods in a task, which gets the value{hint}")

    def __iter__(self) -> Iterator[Any]:
        """Of an array that has a fixed number of elements, as Tuple[str, int] does: `name, size = out`."""
        count = self._shape.fixed_length if self._shape else None
        return iter([self[i] for i in range(count)]) if count is not None else super().__iter__()

    def __str__(self) -> str:
        number = 0
        if self._builder is not None:
            self._builder.mentioned[self._text] = self
            number = self._builder.number
        return f"${{{_TOKEN}-{number}:{self._text}}}"


def _part(name: str) -> str:
    """A member of an object, as a part of a path. A closing brace in it would end the template that the path stands in."""
    if _NAME.match(name):
        return "." + name
    return "[" + json.dumps(name, ensure_ascii=False).replace("}", "\\u007d") + "]"


def root_of(path: str) -> str:
    """The name that a path begins with."""
    return path.replace("[", ".").split(".", 1)[0]


def shown(value: Any) -> str:
    """For messages: a text with references in it as somebody wrote it."""
    return _MARKED.sub(r"{\2}", repr(value))


# ---- conditions ----


def _within(value: Any, rank: int) -> str:
    """An operand of an operator that binds as tightly as rank."""
    if isinstance(value, Expression):
        return value._text if value._rank >= rank else f"({value._text})"
    made = encode(value)
    if isinstance(made, (dict, list)):
        raise TypeError(f"a condition compares with {value!r}; expected a text, a number, True, False, None, an output or a param")
    if has_references(made):
        raise TypeError(f"{shown(value)} has references in it, and a condition compares with whole values; put it together in a task")
    return json.dumps(made, ensure_ascii=False)


def _uses(*values: Any) -> Tuple[Reference, ...]:
    return tuple(use for value in values if isinstance(value, Expression) for use in value._uses)


def _compared(left: Expression, sign: str, right: Any) -> Expression:
    return Expression(f"{_within(left, _NOT)} {sign} {_within(right, _NOT)}", _COMPARISON, _uses(left, right))


def _joined(left: Any, rank: int, right: Any) -> Expression:
    for side in (left, right):
        if not isinstance(side, (Expression, bool)):
            raise TypeError(
                f"& and | join conditions, and {side!r} is none; they bind more tightly than comparisons, which need parentheses: "
                "(out.rows > 0) & (out.ok == True)"
            )
    return Expression(f"{_within(left, rank)} {_SIGNS[rank]} {_within(right, rank)}", rank, _uses(left, right))


def _of(ref: Any, function: str) -> Reference:
    if not isinstance(ref, Reference):
        raise TypeError(f"{function}() is given {shown(ref)}; expected an output, a param, or a part of one")
    return ref


def exists(ref: Any) -> Any:
    """A condition: whether a part is there. `exists(out.errors)`"""
    return Expression(f"exists({_of(ref, 'exists')._text})", _OPERAND, ref._uses)


def length(ref: Any) -> Any:
    """For conditions: the number of an array's elements, an object's members or a text's characters. `length(out.files) > 0`"""
    return Expression(f"len({_of(ref, 'length')._text})", _OPERAND, ref._uses)


def state_of(step: Any) -> Any:
    """A step's state, "succeeded", "failed" or "skipped", by its output. Whoever looks at it needs options(join="all_done")."""
    return _beside(step, "state", Shape({"type": "string"}))


def error_of(step: Any) -> Any:
    """The text of a step's error, or null, by its output. Whoever looks at it needs options(join="all_done")."""
    return _beside(step, "error", Shape({"type": ["string", "null"]}))


def _beside(step: Any, what: str, shape: Shape) -> Reference:
    ref = _of(step, f"{what}_of")
    if ref._step is None or ref._text != step_path(ref._step, "output"):
        raise TypeError(f"{what}_of() is given {ref._described()}; expected the output of a step, as its call returned it")
    return Reference(step_path(ref._step, what), f"the {what} of step {ref._step!r}", ref._builder, ref._step, shape)


def step_path(name: str, what: str) -> str:
    return f"steps{_part(name)}.{what}"


item: Any = Reference("item", "an element of a map")
"""In the arguments of task.map(...): the element."""

index: Any = Reference("index", "the place of an element of a map")
"""In the arguments of task.map(...): the element's place, from 0."""

this_run: Any = Reference("run", "the run")
"""The run itself: this_run.id, this_run.pipeline, this_run.key and this_run.scheduled_ms."""


# ---- templates ----


def template(value: Any, builder: Builder) -> Tuple[Any, List[Reference]]:
    """A value with references in it as a template of the document, and the references in the order in which they stand there.

    Raises EncodeError, which names the place of what has no JSON form.
    """
    uses: List[Reference] = []
    return _template(encode(value), builder, uses), uses


def _template(value: Any, builder: Builder, uses: List[Reference]) -> Any:
    if isinstance(value, str):
        return _text(value, builder, uses)
    if isinstance(value, list):
        return [_template(item, builder, uses) for item in value]
    if isinstance(value, dict):
        for name in value:
            if _MARKED.search(name):
                raise EncodeError(f"the name {shown(name)} of a member has a reference in it; only values can have one")
        return {name: _template(item, builder, uses) for name, item in value.items()}
    return value


def _text(text: str, builder: Builder, uses: List[Reference]) -> str:
    parts = _MARKED.split(text)  # texts, numbers and paths by turns
    out = []
    if any(map(_DAMAGED.search, parts[::3])):
        raise EncodeError(
            "the text has an output, a param or an element of a map in it that was changed afterwards, as upper(), split() and [:5] do; "
            "change texts in a task, which gets the value"
        )
    for literal, number, path in zip(parts[::3], parts[1::3], parts[2::3]):
        uses.append(builder.find(int(number), path))
        out += [_AT_END.sub(_doubled, literal), "${", path, "}"]
    return "".join(out) + _ESCAPED.sub(_doubled, parts[-1])


def _doubled(dollars: "re.Match[str]") -> str:
    return dollars[0] * 2


def has_references(value: Any) -> bool:
    """Of a value that `encode` made."""
    if isinstance(value, dict):
        return any(map(has_references, value.values()))
    if isinstance(value, list):
        return any(map(has_references, value))
    return isinstance(value, str) and _MARKED.search(value) is not None


def reference(value: Any, builder: Builder) -> Optional[Reference]:
    """Of a value that `encode` made: the reference that it is, if it is one and nothing else."""
    found = _MARKED.fullmatch(value) if isinstance(value, str) else None
    return builder.find(int(found[1]), found[2]) if found else None


def mentions(value: Any, path: str) -> bool:
    """Of a value that `encode` made: whether a reference to `path` or a part of it is in it."""
    if isinstance(value, dict):
        return any(mentions(v, path) for v in value.values())
    if isinstance(value, list):
        return any(mentions(v, path) for v in value)
    return isinstance(value, str) and any(root_of(found) == path for _, found in _MARKED.findall(value))


def _no_condition(value: Expression) -> NoReturn:
    raise EncodeError(f"{value._described()} cannot be part of a value: conditions are for options(when=...)")


_encode.register(Reference, str)
_encode.register(Expression, _no_condition)
