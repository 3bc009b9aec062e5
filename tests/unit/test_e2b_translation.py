"""What E2B calls things, and what we do."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest

from orchestrion.core.errors import SandboxError
from orchestrion.sandbox.e2b.translation import capabilities_of, creation, egress, info_of, snapshot_of, time_left
from orchestrion.sandbox.protocols import Network, SandboxSpec
from orchestrion.testing.scripted_sandbox import ABLE


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
    info = info_of(found, root=True)
    assert (info.spec.session_id, info.spec.owner, info.spec.metadata) == ("ses_1", "me", {"color": "blue"})
    assert (info.id, info.state, info.spec.idle_seconds) == ("abc", "paused", 60)
    assert body["timeout"] == 60


@pytest.mark.parametrize("label", ["", "soon", "-5", "9" * 20, "٣"])
def test_an_idle_time_that_is_none_is_the_usual_one(label: str) -> None:
    found = {"sandboxID": "abc", "startedAt": "2026-11-21T10:00:00Z", "metadata": {"orchestrion-idle-seconds": label}}
    assert info_of(found, root=True).spec.idle_seconds == 600
    assert info_of(found, root=True).spec.metadata == {}


def test_what_an_endpoint_says_of_itself_is_checked() -> None:
    told = asdict(ABLE)
    assert capabilities_of(told) == ABLE
    for wrong in (None, [], {**told, "strength": "much"}, {"isolation": "none"}):
        with pytest.raises(SandboxError):
            capabilities_of(wrong)


def test_time_left_is_none_if_nobody_says() -> None:
    assert time_left({"endAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}) > 3500
    assert time_left({}) == 0
    assert time_left({"endAt": "later"}) == 0


@pytest.mark.parametrize("found", [None, [], {}, {"sandboxID": "a.b"}, {"sandboxID": "abc", "startedAt": "soon"}])
def test_what_is_no_sandbox_is_refused(found: object) -> None:
    with pytest.raises(SandboxError):
        info_of(found, root=True)


def test_snapshots_need_but_an_id() -> None:
    kept = snapshot_of({"snapshotID": "x:default", "names": ["x", 5]}, "abc")
    assert (kept.id, kept.names, kept.sandbox_id) == ("x:default", ("x",), "abc")
    with pytest.raises(SandboxError):
        snapshot_of({})
