"""Answers as HTML, for notebooks. Every text in them is escaped, and a picture is an image: nothing leaks into the page."""

from __future__ import annotations

import base64
import datetime
import html
import json
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .errors import Error

_ROWS_MAX = 100
_VALUE_MAX_CHARS = 200
_SINCE_1970_MS = 10**12  # larger values of what ends in _ms are times, smaller ones durations
_COLOURS = {
    "succeeded": "#2f855a",
    "failed": "#c53030",
    "running": "#2b6cb0",
    "cancelled": "#718096",
    "pending": "#b7791f",
    "scheduled": "#b7791f",
    "online": "#2f855a",
    "offline": "#c53030",
    "draining": "#b7791f",
}
_LIST_STYLE = "text-align:left;vertical-align:top"

Column = Tuple[str, Callable[[Mapping[str, Any]], str]]


def one(answer: Mapping[str, Any]) -> str:
    """A status, a task, a run, a definition: whatever a query answers."""
    parts = [_heading(answer)]
    steps = answer.get("steps")
    if isinstance(steps, list):
        parts += [_picture(answer), _table(_run_columns() if "state" in answer else _definition_columns(), steps)]
    scalars = [{"": key, " ": value} for key, value in answer.items() if not _is_nothing(value) and not _is_table(value)]
    parts.append(_table([("", lambda row: f"<b>{_escaped(row[''])}</b>"), (" ", lambda row: _value(row[""], row[" "]))], scalars))
    for key, value in answer.items():
        if key != "steps" and _is_table(value):
            parts += [f"<b>{_escaped(key)}</b>", many(value)]
    return "\n".join(part for part in parts if part)


def many(answers: Sequence[Mapping[str, Any]]) -> str:
    """A list of such things: a column for whatever some of them say."""
    keys: Dict[str, None] = {}
    for answer in answers:
        keys.update((key, None) for key, value in answer.items() if not _is_nothing(value))
    first = [key for key in ("id", "name", "state", "status") if key in keys]
    columns = [_column(key) for key in first + [key for key in keys if key not in first]]
    return _table(columns, answers) if answers else "<i>none</i>"


def fields(title: str, values: Mapping[str, Any]) -> str:
    """A heading, and what there is to say under it."""
    return f"<b>{_escaped(title)}</b>\n" + one(values)


# ---- parts ----


def _heading(answer: Mapping[str, Any]) -> str:
    if "steps" in answer and "state" in answer:
        text = f"run {answer.get('id')} of {answer.get('pipeline')}: {answer['state']}"
    elif "steps" in answer:
        text = f"pipeline {answer.get('name')}"
    elif "cluster_id" in answer:
        text = f"cluster of {len(answer.get('members', ()))}, led by {answer.get('leader') or 'nobody'}"
    else:
        return ""
    return f"<b>{_escaped(text)}</b>"


def _picture(answer: Mapping[str, Any]) -> str:
    from .answers import draw

    try:
        svg = draw(answer, "svg")
    except Error as e:
        return f"<i>no picture: {_escaped(str(e))}</i>"
    data = base64.b64encode(svg.encode()).decode()
    return f'<div><img style="max-width:100%" alt="the steps, in their order" src="data:image/svg+xml;base64,{data}" /></div>'


def _column(key: str, title: Optional[str] = None) -> Column:
    return (title or key, lambda row: _value(key, row.get(key)))


def _run_columns() -> List[Column]:
    return [
        _column("name", "step"),
        _column("state"),
        _column("worker_id", "worker"),
        _column("attempts"),
        ("ms", _elapsed),
        _column("error"),
    ]


def _definition_columns() -> List[Column]:
    return [
        _column("name", "step"),
        ("does", lambda step: _value("", step.get("capability") or f"run of {step.get('pipeline')}")),
        _column("depends_on", "after"),
        _column("map"),
        _column("when"),
    ]


def _elapsed(step: Mapping[str, Any]) -> str:
    begun, ended = step.get("started_ms"), step.get("finished_ms")
    return str(ended - begun) if isinstance(begun, int) and isinstance(ended, int) else ""


def _table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    titles = "".join(f'<th style="{_LIST_STYLE}">{_escaped(title)}</th>' for title, _ in columns)
    body = "".join(f"<tr>{_cells(columns, row)}</tr>" for row in rows[:_ROWS_MAX])
    head = f"<thead><tr>{titles}</tr></thead>" if any(title.strip() for title, _ in columns) else ""
    more = f"<div><i>and {len(rows) - _ROWS_MAX} more</i></div>" if len(rows) > _ROWS_MAX else ""
    return f"<table>{head}<tbody>{body}</tbody></table>{more}"


def _cells(columns: Iterable[Column], row: Mapping[str, Any]) -> str:
    return "".join(f'<td style="{_LIST_STYLE}">{cell(row)}</td>' for _, cell in columns)


# ---- values ----


def _is_nothing(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _escaped(text: Any) -> str:
    return html.escape(str(text))


def _value(key: str, value: Any) -> str:
    if _is_nothing(value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith("_ms") and isinstance(value, int) and value >= _SINCE_1970_MS:
        moment = datetime.datetime.fromtimestamp(value / 1000, datetime.timezone.utc)
        return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ", ".join(value)
    elif not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False)
    text = value if len(value) <= _VALUE_MAX_CHARS else value[:_VALUE_MAX_CHARS] + " …"
    colour = _COLOURS.get(value) if key in ("state", "status") else None
    return f'<span style="color:{colour}">{_escaped(text)}</span>' if colour else _escaped(text)
