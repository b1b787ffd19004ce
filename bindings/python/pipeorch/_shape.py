"""What is known of a value before it is there: the schema of a type hint, which can be looked into.

Nothing is guessed: where a schema leaves something open, everything is allowed.
"""

from __future__ import annotations

from typing import Any, List, Mapping, NamedTuple, Optional, Set, Union

from ._plan import nearest

_ARTICLES = {
    "string": "a string",
    "number": "a number",
    "integer": "an integer",
    "boolean": "true or false",
    "object": "an object",
    "array": "an array",
    "null": "null",
}
_TYPES = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (dict, "object"), (list, "array"), (type(None), "null"))


class Shape(NamedTuple):
    """A schema, and the definitions that it refers to."""

    schema: Mapping[str, Any]
    defs: Mapping[str, Any] = {}

    @classmethod
    def of(cls, schema: Optional[Mapping[str, Any]]) -> Optional[Shape]:
        """Of a schema that stands alone."""
        return None if schema is None else cls(schema, schema.get("$defs", {}))

    def within(self, schema: Mapping[str, Any]) -> Shape:
        return Shape(schema, self.defs)

    @property
    def types(self) -> Set[str]:
        """The types of JSON that are allowed, numbers but for integers included; "any" is among them if it is not known."""
        found = {kind for one in self.choices for kind in _types(one)}
        return found - {"integer"} if "number" in found else found

    @property
    def choices(self) -> List[Mapping[str, Any]]:
        """The schemas of which one must hold."""
        if "$ref" in self.schema:
            return self.within(self.defs[self.schema["$ref"].rsplit("/", 1)[1]]).choices
        if "anyOf" in self.schema:
            return [choice for one in self.schema["anyOf"] for choice in self.within(one).choices]
        return [self.schema]

    @property
    def members(self) -> Set[str]:
        """The names of members that are known."""
        return {name for choice in self.choices for name in choice.get("properties", ())}

    @property
    def element(self) -> Optional[Shape]:
        """Of any element of an array; None: nothing is known of it."""
        arrays = [choice for choice in self.choices if "array" in _types(choice)]
        items = arrays[0].get("items") if len(arrays) == 1 and "prefixItems" not in arrays[0] else None
        return self.within(items) if isinstance(items, dict) else None

    @property
    def fixed_length(self) -> Optional[int]:
        """The number of elements of an array that always has so many; None: it is not known."""
        choice = self.choices[0]
        count: Optional[int] = choice.get("minItems") if len(self.choices) == 1 else None
        return count if count is not None and count == choice.get("maxItems") else None

    def part(self, key: Union[str, int]) -> Optional[Shape]:
        """Of a member or an element; None: nothing is known of it. Raises LookupError, a sentence without its beginning: it
        cannot be there."""
        found: List[Optional[Shape]] = []
        errors: List[LookupError] = []
        for choice in self.choices:
            try:
                found.append(self._part(choice, key))
            except LookupError as e:
                errors.append(e)
        if not found:
            raise errors[0]
        return found[0] if len(found) == 1 else None

    def _part(self, schema: Mapping[str, Any], key: Union[str, int]) -> Optional[Shape]:
        types = _types(schema)
        name = isinstance(key, str)
        if "any" not in types and ("object" if name else "array") not in types:
            raise LookupError(f"is {described(types)} and has no part {key!r}")
        if name:
            known = schema.get("properties", {})
            part = known.get(key, schema.get("additionalProperties", True))
            if part is False:
                raise LookupError(f"has no part {key!r}{nearest(str(key), known)}")
        else:
            first = schema.get("prefixItems", [])
            if isinstance(key, int) and key >= schema.get("maxItems", key + 1):
                raise LookupError(f"has {schema['maxItems']} elements and no part {key!r}")
            part = first[key] if isinstance(key, int) and key < len(first) else schema.get("items", True)
        return self.within(part) if isinstance(part, dict) else None


def _types(schema: Mapping[str, Any]) -> Set[str]:
    if "enum" in schema or "const" in schema:
        return {next(word for kind, word in _TYPES if isinstance(value, kind)) for value in schema.get("enum", [schema.get("const")])}
    types = schema.get("type", "any")
    return {types} if isinstance(types, str) else set(types)


def described(types: Set[str]) -> str:
    """For messages: "a string or null"."""
    return " or ".join(text for word, text in _ARTICLES.items() if word in types)


def fits(given: Set[str], wanted: Set[str]) -> bool:
    """Whether a value of these types may be one of those. A number may be a whole one."""
    if "number" in given | wanted:
        given, wanted = ({"number" if word == "integer" else word for word in types} for types in (given, wanted))
    return "any" in given | wanted or bool(given & wanted)
