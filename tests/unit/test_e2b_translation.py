"""What E2B calls things, and what we do."""

from __future__ import annotations

import pytest

from orchestrion.core.errors import SandboxError
from orchestrion.sandbox.e2b.translation import creation, egress, info_of, snapshot_of
from orchestrion.sandbox.protocols import Network, SandboxSpec


@pytest.mark.parametrize(
    ("network", "rules", "open_"),
    [
        (Network(), {}, False),
        (Network(allow=("*",)), {"denyOut": []}, True),
        (Network(allow=("*",), deny=("10.0.0.0/8",)), {"denyOut": ["10.0.0.0/8"]}, True),
        (Network(allow=("a.example",)), {"allowOut": ["a.example"], "denyOut": ["0.0.0.0/0"]}, True),
        (
            Network(mask_host="x:${PORT}", https_ports=(443,)),
            {"maskRequestHost": "x:${PORT}", "httpsPorts": [443]},
            False,
        ),
    ],
)
def test_the_network_as_e2b_says_it(network: Network, rules: dict[str, object], open_: bool) -> None:
    assert egress(network) == {"network": {"allowPublicTraffic": True, **rules}, "allow_internet_access": open_}


def test_registries_are_named_hosts() -> None:
    rules = egress(Network(registries=True))["network"]
    assert isinstance(rules, dict)
    assert "pypi.org" in rules["allowOut"]


def test_session_and_owner_travel_as_labels() -> None:
    spec = SandboxSpec(session_id="ses_1", owner="me", metadata={"color": "blue"}, idle_seconds=60)
    body = creation(spec)
    found = {"sandboxID": "abc", "startedAt": "2026-11-21T10:00:00Z", "state": "paused", "metadata": body["metadata"]}
    info = info_of(found, 60)
    assert (info.spec.session_id, info.spec.owner, info.spec.metadata) == ("ses_1", "me", {"color": "blue"})
    assert (info.id, info.state, info.spec.idle_seconds) == ("abc", "paused", 60)
    assert body["timeout"] == 60


@pytest.mark.parametrize("found", [None, [], {}, {"sandboxID": "a.b"}, {"sandboxID": "abc", "startedAt": "soon"}])
def test_what_is_no_sandbox_is_refused(found: object) -> None:
    with pytest.raises(SandboxError):
        info_of(found)


def test_snapshots_need_but_an_id() -> None:
    kept = snapshot_of({"snapshotID": "x:default", "names": ["x", 5]}, "abc")
    assert (kept.id, kept.names, kept.sandbox_id) == ("x:default", ("x",), "abc")
    with pytest.raises(SandboxError):
        snapshot_of({})
