"""What the cluster says of things, and pictures of pipelines: dictionaries and lists that show themselves in notebooks."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Union

from . import _ffi
from .errors import Error, InvalidArgument

if TYPE_CHECKING:
    from .pipelines import Pipeline

_FORMS = {"text": 1, "dot": 2, "svg": 3}


class Answer(Dict[str, Any]):
    """What is known of one thing, by name. A notebook shows it as a table, and a pipeline or run as a picture, too."""

    def _repr_html_(self) -> str:
        from ._html import one

        return one(self)


class Answers(List[Dict[str, Any]]):
    """What is known of several things. A notebook shows it as a table."""

    def _repr_html_(self) -> str:
        from ._html import many

        return many(self)


def shown(handle: Any) -> str:
    """A task or a run as a notebook shows it: as it is now, if that can be asked without waiting on an event loop."""
    from .client import Client

    try:
        if isinstance(handle._client, Client):
            return Answer(handle.info())._repr_html_()
    except Error as e:
        return f"{html.escape(repr(handle))}: {html.escape(str(e))}"
    return html.escape(repr(handle))


def draw(pipeline: Union[Pipeline, str, bytes, Mapping[str, Any]], form: str = "text", *, columns: int = 0) -> str:
    """A picture of a pipeline, or of a run with the states of its steps.

    pipeline: a Pipeline; what `client.pipeline` or `client.run` answers; or a pipeline's document, as JSON or parsed. form: "text", for
    terminals; "dot", for Graphviz; "svg", an element to be put into a page or a file. columns: of the terminal, up to 65535;
    0: 120; where the text would be wider, it is an indented list.

    Raises InvalidArgument (a step that follows one that does not exist, or itself), TooBig (too many lines pass too many
    steps; "dot" leaves those to Graphviz).
    """
    from . import _ops

    if not isinstance(columns, int) or not 0 <= columns <= 65535:
        raise InvalidArgument(f"columns is {columns!r}; expected 0 to 65535")
    return _ffi.draw(_ops.document_of(pipeline), _ops.choice(form, _FORMS, "form"), columns)
