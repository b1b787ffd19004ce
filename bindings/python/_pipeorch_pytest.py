"""The fixtures that pytest finds once pipeorch is installed.

A module beside the package, which is loaded when a test asks for a fixture and not before: every run of pytest imports this one,
also where nobody uses pipeorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator

import pytest

if TYPE_CHECKING:
    from pipeorch import Node
    from pipeorch.testing import Cluster

_MARK = "pipeorch_cluster(size=3, **options): what the fixture pipeorch_cluster hands to pipeorch.testing.Cluster"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARK)


@pytest.fixture
def pipeorch_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A `pipeorch.testing.Cluster` of three nodes with a leader, of this test alone. `@pytest.mark.pipeorch_cluster(5,
    election_timeout=0.5)` makes another one."""
    from pipeorch.testing import Cluster

    mark = request.node.get_closest_marker("pipeorch_cluster")
    with Cluster(*mark.args, **mark.kwargs) if mark else Cluster() as cluster:
        yield cluster


@pytest.fixture
def pipeorch_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A `pipeorch.Node` that leads itself, of this test alone, with a port for workers and clients: the quickest cluster there is.
    Calls go to `pipeorch_node.client`, workers and clients of the network to `pipeorch_node.worker_address`."""
    from pipeorch import Node

    with Node(tmp_path_factory.mktemp("pipeorch"), worker_listen="127.0.0.1:0") as node:
        node.wait_leader(30.0)
        yield node
