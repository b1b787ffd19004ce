"""Python values as JSON: `encode` makes a value that `json` can write, `dumps` the bytes that go over the wire.

The form of a value depends on the value alone, never on an annotation, and is the one that `_convert` reads back:

    dataclass, NamedTuple, mapping     object
    list, tuple, deque, range          array
    set, frozenset                     array, sorted, so that equal sets have equal bytes
    Enum                               its value
    bytes, bytearray, memoryview       string, base64
    datetime, date, time               string, ISO 8601
    UUID, Decimal, Path                string
    pydantic model                     what its model_dump(mode="json", by_alias=True) makes
    numpy scalar                       what its item() makes

This module is on the path of every submission and every result. It imports little, and `dumps` hands what is plain
JSON already (which most values are) to the C encoder of `json` after a look at the types, which runs in C as well.
"""

from __future__ import annotations

import base64
import collections
import collections.abc
import datetime
import decimal
import enum
import json
import math
import pathlib
import uuid
from typing import Any, Callable, Iterable, Optional, Tuple, Type, Union

Encoder = Callable[[Any, int], Any]  # value, how many arrays and objects it is in

DEPTH_MAX = 256  # arrays and objects inside of each other: what libpipeorch takes
_NUL = "\\u0000"  # as JSON writes it; libpipeorch takes no text that has it
_SHOWN_MAX = 40  # characters of a string in an error message

_SCALARS = frozenset({str, int, float, bool, type(None)})
_STRINGS = frozenset({str})


def _compact_writer() -> Callable[[Any], str]:
    """json.dumps makes a new C encoder for every value, which takes longer than a small value does. One is enough: it
    has no state without its search for circles, and what it is given has been looked through."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without the C module
        return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
    write = make(None, _not_json, json.encoder.encode_basestring, None, ":", ",", False, False, False)
    return lambda value: "".join(write(value, 0))


def _not_json(value: Any) -> Any:
    raise AssertionError(f"{type_name(type(value))} got past encode")  # the encoder asks for what it does not know


class PlacedError(ValueError):
    """Something is wrong with one place of a value.

    `reason` is the sentence without the place, `path` the names and indexes that lead to it, `pointer` the same as a
    JSON pointer (RFC 6901; "" is the whole value).
    """

    def __init__(self, reason: str, path: Tuple[Union[str, int], ...] = ()) -> None:
        super().__init__(reason, path)  # args are what pickle hands to __init__ again
        self.reason = reason
        self.path = path

    def inside(self, part: Union[str, int]) -> None:
        """Put one step in front of the path. Called while the exception goes up, so that nothing is paid without one."""
        self.path = (part, *self.path)
        self.args = (self.reason, self.path)

    @property
    def pointer(self) -> str:
        return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in self.path)

    def __str__(self) -> str:
        return f"at {self.pointer or 'the top level'}: {self.reason}"


class EncodeError(PlacedError):
    """A value, or a part of it, has no JSON form: an unknown type, NaN, Infinity, text with a NUL or that is not Unicode."""


def dumps(value: Any) -> bytes:
    """The value as compact JSON in UTF-8. Raises EncodeError, which names the place that has no JSON form."""
    try:
        text = _compact(value if _plain(value, 0) else _encode(value, 0))
        if _NUL in text:  # or a backslash before "u0000"
            _encode(value, 0)
        return text.encode()
    except EncodeError:
        raise
    except (ValueError, RecursionError) as error:  # of json: NaN, a lone surrogate, an integer of thousands of digits
        _encode(value, 0)  # says where it is
        raise EncodeError(f"the value cannot be written as JSON: {error}") from None


def encode(value: Any) -> Any:
    """The value in terms of dict, list, str, int, float, bool and None: what json.loads(dumps(value)) returns.

    Raises EncodeError, which names the place that has no JSON form.
    """
    return _encode(value, 0)


def register(kind: Type[Any], encoder: Callable[[Any], Any]) -> None:
    """Give a class (and its subclasses) a JSON form: encoder returns a value that `encode` knows."""
    _registered[kind] = encoder
    _encoders.clear()  # a subclass may have been looked up before


def a_value(value: Any) -> str:
    """A JSON value for an error message: 'the string "x"', "the number 3", "an object"."""
    if isinstance(value, str):
        cut = value if len(value) <= _SHOWN_MAX else value[:_SHOWN_MAX] + "..."
        return "the string " + json.dumps(cut, ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return f"the number {value!r}" if isinstance(value, float) or abs(value) < 10**_SHOWN_MAX else "a huge number"
    if type(value) in (dict, list):
        return "an object" if type(value) is dict else "an array"
    return f"a value of type {type_name(type(value))}"


def type_name(kind: Any) -> str:
    """A class or another type hint for an error message."""
    if isinstance(kind, type) and not hasattr(kind, "__origin__"):
        return kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    return str(kind)


def _plain(value: Any, depth: int) -> bool:
    """Whether json writes the value as _encode would. Exact types only: it takes a NamedTuple for an array."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if depth >= DEPTH_MAX:
        return False
    if kind is dict:
        if not _STRINGS.issuperset(map(type, value)):
            return False
        items: Iterable[Any] = value.values()
    elif kind is list or kind is tuple:
        items = value
    else:
        return False
    if _SCALARS.issuperset(map(type, items)):
        return True
    return all(_plain(item, depth + 1) for item in items if type(item) not in _SCALARS)


def _encode(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return _scalar(value)
    encoder = _encoders.get(kind)
    if encoder is None:
        encoder = _encoders[kind] = _encoder_of(kind)
    if depth >= DEPTH_MAX:
        raise EncodeError(f"more than {DEPTH_MAX} arrays and objects inside of each other; does the value contain itself?")
    return encoder(value, depth + 1)


def _scalar(value: Any) -> Any:
    if type(value) is float and not math.isfinite(value):
        raise EncodeError(f"{value!r} is no JSON number; send null or a string instead")
    if type(value) is str:
        if "\0" in value:
            raise EncodeError(f"the string has a NUL at character {value.index(chr(0))}; send bytes instead")
        try:
            if not value.isascii():
                value.encode()
        except UnicodeEncodeError as error:
            raise EncodeError(f"the string is not Unicode text: character {error.start} is a lone surrogate") from None
    return value


def _array(value: Iterable[Any], depth: int) -> Any:
    out = []
    try:
        for item in value:
            out.append(_encode(item, depth))
    except EncodeError as error:
        error.inside(len(out))
        raise
    return out


def _object(pairs: Iterable[Tuple[Any, Any]], depth: int) -> Any:
    out = {}
    for key, item in pairs:
        name = _member_name(key, depth)
        if name in out:
            raise EncodeError(f"two keys have the same JSON form {json.dumps(name, ensure_ascii=False)}")
        try:
            out[name] = _encode(item, depth)
        except EncodeError as error:
            error.inside(name)
            raise
    return out


def _member_name(key: Any, depth: int) -> str:
    """Keys that are not strings are written as json does: 1 is "1", True is "true", None is "null"."""
    name = _encode(key, depth)
    if isinstance(name, str):
        return name
    if isinstance(name, (dict, list)):
        raise EncodeError(f"a key of type {type_name(type(key))} cannot be the name of a member of an object")
    return json.dumps(name)


def _set(value: Iterable[Any], depth: int) -> Any:
    items = [_encode(item, depth) for item in value]  # no pointer into a set: it has no order yet
    try:
        return sorted(items)
    except TypeError:  # of several types
        return sorted(items, key=_compact)


def _model(value: Any, depth: int) -> Any:
    try:
        dumped = value.model_dump(mode="json", by_alias=True)
    except ValueError as error:
        raise EncodeError(f"{type_name(type(value))} cannot be dumped: {error}") from None
    return _encode(dumped, depth)


def _shared(value: Any, depth: int) -> Any:
    """An array or a table: by reference, if there is a directory for it."""
    from . import _store

    if _store.current is not None:
        return _encode(_store.current.put(value), depth)
    if getattr(value, "ndim", 1) == 0:
        return _item(value, depth)
    raise EncodeError(
        f"{type_name(type(value))} has no JSON form; call its {'tolist' if hasattr(value, 'tolist') else 'to_pylist'}(), or have it passed "
        "by reference within this machine: pipeorch.share(directory)"
    )


def _item(value: Any, depth: int) -> Any:
    """A scalar of numpy, or what looks like one. An array is refused: tolist() would be a surprise of megabytes."""
    if getattr(value, "ndim", 1) != 0:
        raise EncodeError(f"{type_name(type(value))} has no JSON form; call its tolist()")
    item = value.item()
    if type(item) is type(value):
        raise EncodeError(f"{type_name(type(value))} has no JSON form")
    return _encode(item, depth)


def _dataclass(kind: Type[Any]) -> Encoder:
    import dataclasses  # already loaded by whoever made the class

    names = [field.name for field in dataclasses.fields(kind)]
    return lambda value, depth: _object(((name, getattr(value, name)) for name in names), depth)


_BY_BASE: Tuple[Tuple[Union[Type[Any], Tuple[Type[Any], ...]], Encoder], ...] = (
    (enum.Enum, lambda value, depth: _encode(value.value, depth)),
    (str, lambda value, depth: _scalar(str.__str__(value))),
    (int, lambda value, depth: int.__int__(value)),
    (float, lambda value, depth: _scalar(float.__float__(value))),
    ((bytes, bytearray, memoryview), lambda value, depth: base64.b64encode(bytes(value)).decode("ascii")),
    ((datetime.date, datetime.time), lambda value, depth: value.isoformat()),
    ((uuid.UUID, decimal.Decimal), lambda value, depth: str(value)),
    (pathlib.PurePath, lambda value, depth: _scalar(str(value))),
    (collections.abc.Mapping, lambda value, depth: _object(value.items(), depth)),
    (collections.abc.Set, _set),
    ((list, tuple, collections.deque, range), _array),
)


def _encoder_of(kind: Type[Any]) -> Encoder:
    for base in kind.__mro__:
        if base in _registered:
            encoder = _registered[base]
            return lambda value, depth: _encode(encoder(value), depth)
    if hasattr(kind, "__dataclass_fields__"):
        return _dataclass(kind)
    if hasattr(kind, "model_dump") and hasattr(kind, "model_validate"):
        return _model
    names: Any = getattr(kind, "_fields", None)
    if issubclass(kind, tuple) and names is not None:
        return lambda value, depth: _object(zip(names, value), depth)
    for bases, by_base in _BY_BASE:
        if issubclass(kind, bases):
            return by_base
    if any(base.__module__.partition(".")[0] in ("numpy", "pyarrow") for base in kind.__mro__):
        from . import _store

        if _store.is_shared(kind):
            return _shared
    if hasattr(kind, "item") and hasattr(kind, "dtype"):
        return _item
    raise EncodeError(
        f"a value of type {type_name(kind)} has no JSON form; "
        "expected a dataclass, a dict, a list, a pydantic model or another type that has one"
    )


_compact = _compact_writer()
_registered: dict[Type[Any], Callable[[Any], Any]] = {}
_encoders: dict[Type[Any], Optional[Encoder]] = {}
