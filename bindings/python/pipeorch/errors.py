"""What can go wrong: one exception for each error code of libpipeorch.

All are subclasses of `Error`, and where Python has an exception of its own for the case, of that one, too:
`except TimeoutError` catches `TimedOut`. The codes are frozen; a code of a newer library is a plain `Error`.
"""

from __future__ import annotations

from typing import Dict, Optional, Type

__all__ = [
    "Error",
    "InvalidArgument",
    "OutOfMemory",
    "Busy",
    "TooBig",
    "Closed",
    "TimedOut",
    "OutcomeUnknown",
    "NotLeader",
    "NoLeader",
    "NotFound",
    "AlreadyExists",
    "Stale",
    "NotRegistered",
    "NoCapability",
    "WrongState",
    "QuotaExceeded",
    "ProtocolError",
    "VersionMismatch",
    "InputOutputError",
    "NoSpace",
    "Corrupt",
    "Locked",
    "WrongIdentity",
    "NotBootstrapped",
    "BadAddress",
    "Unreachable",
    "NodeFault",
    "Cancelled",
    "Refused",
    "StaleRead",
    "Removed",
    "Forked",
]


class Error(Exception):
    """A call failed.

    code: the library's negative number. name: its name, "PO_EBUSY". retryable: whether the same call may succeed later
    without anything being changed. leader_hint: of a call on a node of this process that reached no leader in time: who leads as
    far as that node knows, "node 3"; else None. The library follows redirects by itself: this is for logs and people.
    """

    code: int = 0
    name: str = "PO_E?"
    retryable: bool = False

    def __init__(self, message: str, leader_hint: Optional[str] = None) -> None:
        super().__init__(message)
        self.message = message
        self.leader_hint = leader_hint

    def __str__(self) -> str:
        return f"{self.message} ({self.name})"


class InvalidArgument(Error, ValueError):
    """An argument is wrong; the message says which, what was found, what is expected."""


class OutOfMemory(Error, MemoryError):
    """No memory on this side."""


class Busy(Error):
    """A bounded queue is full: retry later, or have fewer calls under way."""


class TooBig(Error, ValueError):
    """A value exceeds its documented limit."""


class Closed(Error):
    """The client, node or worker is closed or stopping."""


class TimedOut(Error, TimeoutError):
    """No answer within the timeout, and nothing was started."""


class OutcomeUnknown(Error):
    """The call may or may not have taken effect. With an idempotency key it can be repeated safely."""


class NotLeader(Error):
    """The node that was asked does not lead."""


class NoLeader(Error):
    """No leader is known: is a majority of the control nodes up?"""


class NotFound(Error, LookupError):
    """There is no such object, or it is forgotten."""


class AlreadyExists(Error):
    """The object exists with other content."""


class Stale(Error):
    """The lease, incarnation or fencing token is no longer current: leave no side effects."""


class NotRegistered(Error):
    """The cluster does not know the worker; register again."""


class NoCapability(Error):
    """No registered worker offers the capability."""


class WrongState(Error):
    """The object's state does not allow this."""


class QuotaExceeded(Error):
    """A bounded table of the cluster is full."""


class ProtocolError(Error):
    """A message is malformed."""


class VersionMismatch(Error):
    """A version or type is not known: a control node, or this library, is too old."""


class InputOutputError(Error, OSError):
    """The disk or the network failed."""


class NoSpace(Error, OSError):
    """No space is left on the disk."""


class Corrupt(Error):
    """Stored data is damaged."""


class Locked(Error):
    """The data directory is in use by another process."""


class WrongIdentity(Error):
    """The data directory or the peer belongs to another cluster or node."""


class NotBootstrapped(Error):
    """The data directory is empty, and bootstrap was not asked for."""


class BadAddress(Error, ValueError):
    """An address cannot be parsed, resolved or bound."""


class Unreachable(Error, ConnectionError):
    """No control node answers at the addresses given."""


class NodeFault(Error):
    """The node stopped because of a fault that it could not survive honestly."""


class Cancelled(Error):
    """The operation was cancelled."""


class Refused(Error):
    """Refused; the message says why."""


class StaleRead(Error):
    """The state is staler than the bound that the caller set."""


class Removed(Error):
    """The node was removed from its cluster."""


class Forked(Error):
    """A handle that was opened before a fork was used in the child. Open another one there."""

    name = "forked"


_CODES: Dict[int, Type[Error]] = {
    -1: InvalidArgument,
    -2: OutOfMemory,
    -3: Busy,
    -4: TooBig,
    -5: Closed,
    -6: TimedOut,
    -7: OutcomeUnknown,
    -8: NotLeader,
    -9: NoLeader,
    -10: NotFound,
    -11: AlreadyExists,
    -12: Stale,
    -13: NotRegistered,
    -14: NoCapability,
    -15: WrongState,
    -16: QuotaExceeded,
    -17: ProtocolError,
    -18: VersionMismatch,
    -19: InputOutputError,
    -20: NoSpace,
    -21: Corrupt,
    -22: Locked,
    -23: WrongIdentity,
    -24: NotBootstrapped,
    -25: BadAddress,
    -26: Unreachable,
    -27: NodeFault,
    -28: Cancelled,
    -29: Refused,
    -30: StaleRead,
    -31: Removed,
}
for _code, _class in _CODES.items():
    _class.code = _code


def _describe(code: int, name: str, retryable: bool) -> None:
    """Take over what the library says of a code."""
    if code in _CODES:
        _CODES[code].name = name
        _CODES[code].retryable = retryable


def error_of(code: int, message: str, leader_hint: Optional[str] = None) -> Error:
    """The exception for a code of the library."""
    kind = _CODES.get(code)
    if kind is None:
        unknown = Error(message, leader_hint)
        unknown.code = code
        return unknown
    return kind(message, leader_hint)
