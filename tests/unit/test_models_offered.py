"""The names by which code in a sandbox may ask for a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrion.core.errors import NotFound
from orchestrion.core.settings import Settings
from orchestrion.models import PLAYBOOK, load_catalog
from orchestrion.models.choice import TIERS, offered
from orchestrion.models.registry import Models


def names(home: Path, override: str | None = None, **values: Any) -> dict[str, str]:
    found = offered(Settings(home=home, **values), load_catalog(), override)
    return {name: choice.label for name, choice in found.items()}


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_MODEL", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_key_there_is_the_playbook(tmp_path: Path) -> None:
    assert names(tmp_path) == dict.fromkeys(["default", *TIERS, PLAYBOOK], PLAYBOOK)


def test_every_model_of_a_provider_with_a_key_can_be_named_with_or_without_it(tmp_path: Path) -> None:
    known = names(tmp_path, anthropic_api_key="k")
    tiers = load_catalog().tiers["anthropic"]
    assert {tier: known[tier] for tier in TIERS} == {tier: f"anthropic:{tiers[tier]}" for tier in TIERS}
    assert known["default"] == known["standard"] == known[tiers["standard"]]
    assert all(label.startswith("anthropic:") for label in known.values())
    both = names(tmp_path, anthropic_api_key="k", openai_api_key="k")
    assert known.items() <= both.items()
    assert f"openai:{load_catalog().tiers['openai']['flash']}" in both


def test_a_model_that_was_settled_on_is_the_only_one(tmp_path: Path) -> None:
    for known in (
        names(tmp_path, "openai:gpt-x", anthropic_api_key="k", openai_api_key="k"),
        names(tmp_path, model="openai:gpt-x", anthropic_api_key="k"),
    ):
        assert set(known) == {"default", *TIERS, "openai:gpt-x", "gpt-x"}
        assert set(known.values()) == {"openai:gpt-x"}


async def test_an_unknown_name_is_told_what_there_is(tmp_path: Path) -> None:
    models = Models(Settings(home=tmp_path))
    with pytest.raises(NotFound) as unknown:
        await models.prepare_named("x" * 1000)
    assert len(unknown.value.detail) < 200
    assert "default, flash, standard, pro, playbook" in unknown.value.remedy
    assert (await models.prepare_named("pro"))[0] == PLAYBOOK
