"""The documents of pipelines: JSON read and written, and put together from what a function built."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from ._encode import EncodeError, a_value
from ._expr import step_path, template
from ._params import Param
from ._steps import Builder
from .errors import InvalidArgument

# Of documents that are chains: see libpipeorch/spec/README.md.
_CHAIN_KEYS = {"name", "description", "steps"}
_CHAIN_STEP_KEYS = {"name", "description", "capability", "config", "timeout_ms", "attempts_max", "depends_on"}
_CHAIN_CAPABILITY = re.compile(r"[^:@]*:[^:@]*\Z")  # no alias, no range of versions


def text(document: Mapping[str, Any], indent: Optional[int]) -> str:
    """Raises InvalidArgument: there is something in it that JSON has no form for."""
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=indent)
    except (TypeError, ValueError, RecursionError) as e:
        raise InvalidArgument(f"the document of a pipeline is no JSON: {e}") from None


def parsed(source: Union[str, bytes], what: str) -> Tuple[str, Dict[str, Any]]:
    """JSON as text, and the object that it is. what: its name, for messages. Raises InvalidArgument."""

    def members(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            twice = next(key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1)
            raise InvalidArgument(f"{what}: the key {json.dumps(twice)} is there twice in one object")
        return made

    try:
        decoded = source.decode() if isinstance(source, bytes) else source
        document = json.loads(decoded, object_pairs_hook=members)
    except UnicodeDecodeError as e:
        raise InvalidArgument(f"{what} is no UTF-8: {e}") from None
    except RecursionError:
        raise InvalidArgument(f"{what} has too many arrays and objects inside of each other") from None
    except json.JSONDecodeError as e:
        raise InvalidArgument(f"{what}:{e.lineno}:{e.colno}: {e.msg}") from None
    if not isinstance(document, dict):
        raise InvalidArgument(f"{what} is {a_value(document)}; expected an object")
    return decoded, document


def assembled(
    name: str, about: Mapping[str, Any], params: Mapping[str, Param], builder: Builder, output: Any
) -> Dict[str, Any]:
    """Of what a function built and returned. Raises InvalidArgument (of what it returned)."""
    document: Dict[str, Any] = {"name": name}
    document.update((key, value) for key, value in about.items() if value is not None)
    if params:
        document["params"] = {name: param.declared for name, param in params.items()}
    document["steps"] = builder.steps
    if output is not None:
        try:
            document["output"], uses = template(output, builder)
            builder.own(uses, element=False)
        except (EncodeError, InvalidArgument) as e:
            raise InvalidArgument(f"pipeline {name!r}: what it returns: {e.message if isinstance(e, InvalidArgument) else e}") from None
    return _as_chain(document)


def _as_chain(document: Dict[str, Any]) -> Dict[str, Any]:
    """A chain as chains are written, which clusters of any release take; other documents as they are."""
    steps = document["steps"]
    last = ["output"] if document.get("output") == "${" + step_path(steps[-1]["name"], "output") + "}" else []  # the default
    if not {*document} - {*last} <= _CHAIN_KEYS:
        return document
    for step, before in zip(steps, [[], *([step["name"]] for step in steps)]):
        if not {*step} <= _CHAIN_STEP_KEYS or step.get("depends_on", []) != before or not _CHAIN_CAPABILITY.match(step["capability"]):
            return document
    chained = [{key: value for key, value in step.items() if key != "depends_on"} for step in steps]
    for step, after in zip(chained, chained[1:]):
        step["next_node"] = after["name"]
    made = {key: value for key, value in document.items() if key not in ("steps", "output")}
    return {**made, "start_node": steps[0]["name"], "steps": chained}
