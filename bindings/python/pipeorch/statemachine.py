"""An application's own replicated state, carried by the same log as the orchestrator's."""

from __future__ import annotations

from typing import Any, Optional

from . import _ffi


class StateMachine:
    """State that all nodes of a cluster have alike: subclass it, and give an instance to each `Node`.

    All methods run on the node's thread, one at a time, under the GIL; a slow one holds up the node. They must be deterministic: no
    clock, no random number, no environment, no iteration over sets. A method that raises stops the node (the call under way ends with
    OutcomeUnknown, later ones with NodeFault; the traceback is in the log): replicas that disagree would be worse than one that stops.
    """

    def apply(self, index: int, command: bytes) -> Optional[bytes]:
        """Apply a committed command; index is that of its log entry. What is returned, at most 1 MiB, is the result of
        `Node.apply`."""
        raise NotImplementedError(f"{type(self).__name__} has no apply")

    def snapshot(self) -> bytes:
        """The whole state."""
        raise NotImplementedError(f"{type(self).__name__} has no snapshot")

    def restore(self, data: bytes) -> None:
        """Replace the whole state by what `snapshot` returned; b"" with nothing ever saved: the empty state."""
        raise NotImplementedError(f"{type(self).__name__} has no restore")


def bound(machine: StateMachine) -> Any:
    """The C struct that calls a machine; to be kept alive as long as the node."""
    if not isinstance(machine, StateMachine):
        from .errors import InvalidArgument

        raise InvalidArgument(f"state_machine is {machine!r}; expected an instance of a subclass of pipeorch.StateMachine")
    return _ffi.state_machine(machine.apply, machine.snapshot, machine.restore, lambda: _tell(machine))


def _tell(machine: StateMachine) -> None:
    from ._log import logger

    logger.exception("state machine %s failed; its node stops", type(machine).__name__)
