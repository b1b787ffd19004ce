"""What would become of a pipeline if everything went wrong: whole clusters in virtual time, drawn from a seed."""

from __future__ import annotations

import ctypes
import json
import threading
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

from .. import _ffi, _ops
from .._wait import in_thread, live_handles
from ..errors import InvalidArgument, WrongState, error_of
from ..pipelines import Pipeline
from ..schema import dumps

_ERROR_BYTES = 65536
_one_at_a_time = threading.Lock()


class Simulation(NamedTuple):
    """What came of it."""

    kept: bool  # every promise of the cluster was kept, and nothing was lost
    failure: Optional[str]  # else what was broken, in a sentence
    seconds: float  # of virtual time
    runs: List[Dict[str, Any]]  # as Client.run shows them, where the cluster still knows them
    counts: Dict[str, int]  # "failovers", "crashes", "partitions", "attempts", "messages_lost", ...
    trace: str  # hash of the course of events: equal for equal courses
    seed: int
    faults: str
    nodes: int

    def __repr__(self) -> str:
        told = "kept" if self.kept else f"BROKEN: {self.failure}"
        states = [str(run.get("state")) for run in self.runs]
        runs = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))) or "none known"
        happened = ", ".join(f"{self.counts[key]} {key}" for key in ("faults", "failovers", "attempts", "attempts_failed"))
        return f"<simulation of seed {self.seed} under {self.faults!r}: {told}; runs: {runs}; {self.seconds:g} virtual seconds; {happened}>"


def presets() -> Dict[str, str]:
    """The names that `faults` may have, each with a sentence on what goes wrong in it."""
    function = _ffi.provisional("po_sim_preset")
    what = ctypes.c_char_p()
    found: Dict[str, str] = {}
    while True:
        name = function(len(found), ctypes.byref(what))
        if name is None:
            return found
        found[name.decode()] = (what.value or b"").decode()


def _whole(value: Any, name: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidArgument(f"{name} is {value!r}; expected {least} to {most}")
    return value


def simulate(
    pipeline: Union[Pipeline, str, bytes, Mapping[str, Any]],
    *,
    params: Any = None,
    workers: Optional[Sequence[Mapping[str, Any]]] = None,
    faults: str = "lan",
    seed: int = 0,
    nodes: int = 3,
    runs: int = 1,
    limit: float = 3600.0,
) -> Simulation:
    """Run a pipeline on a simulated cluster: the code of real nodes, on simulated clocks, disks and networks. No real time passes,
    no file is touched, and the same arguments give the same course of events on every machine. Usually a second or less.

    pipeline: one made of a function, or a document, as Client.define_pipeline takes it. params: of each run. workers: at most 32,
    [{"id": "gpu-1", "zone": "aws", "capabilities": [{"name": "train:net", "version": "1.2.0", "concurrency": 1, "min_ms": 500,
    "max_ms": 9000, "failure_percent": 2, "output": {"loss": 0.1}}]}]; None: three that offer all that the pipeline needs, and never
    fail. No handler runs: results are the "output" given, or else placeholders. faults: see `presets`. seed: 0 to 2**64 - 1.
    nodes: 1 to 7. runs: one after the other, 1 to 1000. limit: of virtual time, in whole seconds, 10 to 86400.

    Nothing else of this package may be open meanwhile: failures of memory are made for the whole process. One simulation runs at a
    time; others wait. Ctrl-C ends it.

    Raises InvalidArgument, which lists all problems of a document with their places, NotFound (no such preset), WrongState
    (something is open).
    """
    if isinstance(pipeline, Pipeline):
        pipeline.validate()  # which tells the lines of its function
        pipeline = pipeline.document
    document = _ops.document_of(pipeline)
    told = json.dumps(list(workers)).encode() if workers is not None else None
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 10 <= limit <= 86400:
        raise InvalidArgument(f"limit is {limit!r}; expected 10 to 86400 seconds of virtual time")
    opts = _ffi.sized(
        _ffi.po_sim_opts,
        pipeline=document,
        pipeline_len=len(document),
        params=dumps(params),
        workers=told,
        workers_len=len(told or b""),
        faults=_ffi.text(faults),
        seed=_whole(seed, "seed", 0, 2**64 - 1),
        nodes=_whole(nodes, "nodes", 1, 7),
        runs=_whole(runs, "runs", 1, 1000),
        limit_s=int(limit),
    )
    stop = ctypes.c_int(0)
    opts.stop = ctypes.pointer(stop)
    try:
        report = json.loads(in_thread(lambda: _run(opts)))
    except BaseException:  # a signal ended the wait
        stop.value = 1
        raise
    return Simulation(
        report["kept"],
        report["failure"],
        report["virtual_ms"] / 1000,
        report["runs"],
        report["counts"],
        report["trace"],
        seed,
        report["faults"],
        report["nodes"],
    )


def _open() -> List[str]:
    """What is open in this process; clients of nodes and workers are closed with these."""
    return sorted(h._what for h in live_handles() if h._pointer is not None and not h._inner)


def _run(opts: Any) -> str:
    function = _ffi.provisional("po_sim_run")
    report = ctypes.c_void_p()
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    with _one_at_a_time:
        in_the_way = _open()
        if in_the_way:
            raise WrongState(
                f"a simulation makes memory fail in the whole process, in which are open: {', '.join(in_the_way)}. Close everything "
                "before, or simulate in a process of its own"
            )
        code = function(opts, ctypes.byref(report), error, len(error))
    if code:
        raise error_of(code, error.value.decode("utf-8", "replace"))
    return _ffi.take_text(report)
