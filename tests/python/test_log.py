"""The library's log, in Python's."""

import logging

import pipeorch
from pipeorch import _log
from pipeorch._wait import Outcome


def test_levels_names_and_ids(tmp_path, caplog, until):
    caplog.set_level(logging.INFO, "pipeorch")
    with pipeorch.Node(tmp_path / "n", name="alpha") as node:
        node.wait_leader()
        until(lambda: [r for r in caplog.records if getattr(r, "event_id", "") == "raft.leader"])
    record = next(r for r in caplog.records if getattr(r, "event_id", "") == "raft.leader")
    assert record.name == "pipeorch" and record.levelno == logging.INFO and record.getMessage().startswith("alpha: ")
    assert not [r for r in caplog.records if r.levelno == logging.DEBUG]


def test_debugging_is_asked_for_by_the_logger(caplog):
    stream = _log.LogStream()
    assert stream.options().level == 3
    caplog.set_level(logging.DEBUG, "pipeorch")
    assert stream.options().level == 4
    stream.close()
    stream.close()


def test_lost_lines_are_told(caplog):
    _log._tell(Outcome(3, 2, 0, 0, 0, 0, 3, b"text", "a.b", "n"))
    assert caplog.messages == ["n: text (3 lines before this one were dropped)"]
    assert caplog.records[0].levelno == logging.WARNING and caplog.records[0].event_id == "a.b"


def test_a_filter_that_raises_ends_nothing(tmp_path, caplog, until, monkeypatch):
    told = []
    monkeypatch.setattr("threading.excepthook", lambda args: told.append(args.exc_value))
    caplog.set_level(logging.INFO, "pipeorch")

    def refuse(record):
        raise RuntimeError("on purpose")

    _log.logger.addFilter(refuse)
    try:
        with pipeorch.Node(tmp_path / "n"):
            until(lambda: told)
    finally:
        _log.logger.removeFilter(refuse)
    with pipeorch.Node(tmp_path / "m", name="later") as node:
        node.wait_leader()
        until(lambda: "later: " in caplog.text)
