"""What can be said of a step besides its arguments: the options of `task.options(...)`, and what the document says for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Mapping, TypedDict, Union

from ._ops import Placement
from ._plan import nearest
from ._task import ATTEMPT_MAX, RETRIES_MAX, whole
from ._wait import milliseconds
from .errors import InvalidArgument

if TYPE_CHECKING:
    from typing_extensions import Literal

_KEEP_MAX = 1e9  # seconds


class StepOptions(TypedDict, total=False):
    """See `StepFunction.options`."""

    name: str
    after: Any
    join: "Literal['all_succeeded', 'all_done', 'any_succeeded']"
    when: Any
    retries: int
    retry_delay: float
    retry_delay_max: float
    timeout: float
    on_failure: "Literal['fail', 'continue']"
    priority: int
    placement: Placement
    version: str
    cache: Union[bool, float]
    config: Any
    parallel: int
    description: str


OF_PIPELINES = ("name", "after", "join", "when", "on_failure", "parallel", "description")
"""Those that a step which runs another pipeline has, too."""

_AS_THEY_ARE = ("join", "on_failure", "priority", "description")


def checked(options: Mapping[str, Any], what: str, *, of_pipeline: bool) -> Dict[str, Any]:
    """Those that say something. Raises TypeError: there is no such option. what: the step's function, for messages."""
    for name in options:
        if name not in StepOptions.__annotations__:
            hint = nearest(name, StepOptions.__annotations__)
            raise TypeError(f"a step has no option {name!r}{hint}; the arguments of {what} go into the call: {what}.options(...)(...)")
        if of_pipeline and name not in OF_PIPELINES:
            raise TypeError(f"the option {name!r} belongs to the steps of {what}, which is a pipeline; give it to them")
    return {name: value for name, value in options.items() if value is not None}


def fields(options: Mapping[str, Any]) -> Dict[str, Any]:
    """The keys of a step that options stand for; name, after, when, version and parallel are the builder's.

    Raises InvalidArgument."""
    made: Dict[str, Any] = {name: options[name] for name in _AS_THEY_ARE if name in options}
    if "retries" in options:
        retries = options["retries"]
        if not whole(retries, 0, RETRIES_MAX):
            raise InvalidArgument(f"retries is {retries!r}; expected 0 to {RETRIES_MAX}")
        made["attempts_max"] = retries + 1
    if "timeout" in options:
        made["timeout_ms"] = milliseconds(options["timeout"], "timeout", ATTEMPT_MAX, 0.1)
    retry = {
        key: milliseconds(options[name], name, ATTEMPT_MAX)
        for name, key in (("retry_delay", "delay_ms"), ("retry_delay_max", "delay_max_ms"))
        if name in options
    }
    if retry:
        made["retry"] = retry
    if "placement" in options:
        made.update(_placement(options["placement"]))
    if "cache" in options:
        made.update(_cache(options["cache"]))
    return made


def _placement(placement: Any) -> Dict[str, Any]:
    if not isinstance(placement, Placement):
        raise InvalidArgument(f"placement is {placement!r}; expected pipeorch.Placement(...)")
    if placement.version is not None:
        raise InvalidArgument(f"the placement names the version {placement.version!r}; give the step options(version=...) instead")
    made = {
        "zone": placement.zone,
        "labels": dict(placement.labels),
        "gpu": placement.gpu,
        "resources": dict(placement.resources),
        "prefer": placement.prefer if placement.prefer != "balance" else None,
    }
    made = {key: value for key, value in made.items() if value}
    return {"placement": made} if made else {}


def _cache(cache: Any) -> Dict[str, Any]:
    if isinstance(cache, bool):
        return {"cache": True} if cache else {}
    return {"cache": {"ttl_ms": milliseconds(cache, "cache", _KEEP_MAX)}}
