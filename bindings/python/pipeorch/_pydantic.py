"""The JSON Schemas that pydantic makes, brought into the subset that libpipeorch enforces.

Keywords outside of the subset are taken out: pattern, patternProperties, discriminator, a $ref to anything but $defs,
whatever else json_schema_extra adds. That may only make a schema weaker, never stricter, as the model makes all of its
checks on the worker in any case. So additionalProperties goes where patternProperties went, oneOf becomes anyOf (what
pydantic writes as oneOf has a discriminator, which lets one branch apply at most), and not, if, then, else and contains
go even though libpipeorch knows them: pydantic itself makes none of these.

pydantic is not imported here.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, Mapping

from ._encode import EncodeError, dumps

JSONSchema = Dict[str, Any]

_PREFIX = "#/$defs/"
_NAME_MAX_BYTES = 120  # of a definition; libpipeorch reads a $ref of at most 256

_VALUES = frozenset(
    "type enum const required minProperties maxProperties dependentRequired minItems maxItems uniqueItems minimum maximum "
    "exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength".split()
)
_ANNOTATIONS = frozenset(
    "title description default examples $comment format deprecated readOnly writeOnly contentMediaType contentEncoding".split()
)
_SCHEMA = frozenset("additionalProperties propertyNames items".split())
_SCHEMAS = frozenset("allOf anyOf oneOf prefixItems".split())


def schema_into(defs: Dict[str, JSONSchema], cls: Any, mode: str, free_name: Callable[[str], str]) -> JSONSchema:
    """Put the definitions of a model's schema into defs, and return the $ref to its own.

    mode is "validation" or "serialization". free_name makes a name that defs does not have yet.
    """
    root: JSONSchema = cls.model_json_schema(mode=mode, by_alias=True, ref_template=_PREFIX + "{model}")
    found: Dict[str, JSONSchema] = root.pop("$defs", {})
    if list(root) == ["$ref"]:
        top = root["$ref"][len(_PREFIX) :]
    else:
        top = cls.__name__ if cls.__name__ not in found else cls.__name__ + "_top"
        found[top] = root
    names = {name: name for name in found}
    cleaned = {name: clean(schema, names) for name, schema in found.items()}
    if any(defs.get(name, schema) != schema or len(name.encode()) > _NAME_MAX_BYTES for name, schema in cleaned.items()):
        for name in found:  # the names are taken, by something else
            names[name] = free_name(name.encode()[:_NAME_MAX_BYTES].decode(errors="ignore"))
            defs[names[name]] = {}
    for name, schema in found.items():
        defs[names[name]] = clean(schema, names)
    return {"$ref": _PREFIX + names[top]}


def references(schema: Any) -> Iterator[str]:
    """The names of the definitions that a schema refers to."""
    if isinstance(schema, dict):
        ref = schema.get("$ref")
        if isinstance(ref, str) and ref.startswith(_PREFIX):
            yield ref[len(_PREFIX) :]
        for value in schema.values():
            yield from references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from references(value)


def clean(schema: Any, names: Mapping[str, str]) -> Any:
    """The schema in the subset, with the definitions that it refers to renamed."""
    if not isinstance(schema, dict):
        return schema
    out: JSONSchema = {}
    for keyword, value in schema.items():
        if keyword in _VALUES or keyword in _ANNOTATIONS and _is_json(value):
            out[keyword] = value
        elif keyword == "$ref" and value[len(_PREFIX) :] in names:
            out[keyword] = _PREFIX + names[value[len(_PREFIX) :]]
        elif keyword == "properties":
            out[keyword] = {name: clean(member, names) for name, member in value.items()}
        elif keyword in _SCHEMA:
            out[keyword] = clean(value, names)
        elif keyword in _SCHEMAS:
            out[keyword] = [clean(branch, names) for branch in value]
    if "patternProperties" in schema:
        out.pop("additionalProperties", None)
    if "oneOf" in out:
        branches = out.pop("oneOf")
        if "anyOf" in out:
            out["allOf"] = [*out.get("allOf", ()), {"anyOf": branches}]
        else:
            out["anyOf"] = branches
    return out


def _is_json(value: Any) -> bool:
    """A default may be NaN, which is no reason to refuse the model."""
    try:
        dumps(value)
    except EncodeError:
        return False
    return True
