"""Which model answers, what it costs, and what a wrong file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from orchestrion.core.errors import ConfigError
from orchestrion.core.settings import Settings
from orchestrion.models import NOT_A_MODEL, Models, load_catalog


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("API_KEY", "MODEL", "BASE_URL"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
        monkeypatch.delenv(f"OPENAI_{name}", raising=False)
    monkeypatch.setenv("ORCHESTRION_HOME", str(tmp_path))


def models(override: str | None = None, **settings: Any) -> Models:
    return Models(Settings(**settings), override)


def test_without_any_key_the_playbook_answers() -> None:
    found = models()
    assert found.playbook
    assert found.label("data") == "playbook"
    assert found.describe().startswith(NOT_A_MODEL)
    assert found.for_role("chat") is found.for_role("chat")
    assert found.price("playbook", 10, 10, 0) == 0.0


@pytest.mark.parametrize("role", ["orchestrator", "router", "worker", "data"])
def test_the_playbook_has_a_part_for_every_role(role: str) -> None:
    assert type(models().for_role(role)).__name__ == "PlaybookModel"


def test_an_anthropic_key_alone_is_enough() -> None:
    found = models(anthropic_api_key="k")
    assert not found.playbook
    assert found.label("data") == "anthropic:claude-sonnet-5-5"
    assert found.label("router") == "anthropic:claude-haiku-5-5"


def test_anthropic_model_replaces_every_tier() -> None:
    found = models(anthropic_api_key="k", anthropic_model="claude-opus-5-5")
    assert {found.label(role) for role in ("router", "data", "architect")} == {"anthropic:claude-opus-5-5"}
    assert found.describe() == "anthropic:claude-opus-5-5"


def test_anthropic_comes_before_openai_and_a_base_url_counts_as_a_key() -> None:
    assert models(anthropic_base_url="http://h", openai_api_key="k").label("chat").startswith("anthropic:")
    assert models(openai_base_url="http://h/v1", openai_model="llama").label("chat") == "openai:llama"
    assert models(openai_api_key="k").label("chat").startswith("openai:gpt-")


def test_a_setting_beats_keys_and_an_override_beats_the_setting() -> None:
    keys: dict[str, Any] = {"anthropic_api_key": "k", "model": "openai:gpt-6-sol"}
    assert models(**keys).label("data") == "openai:gpt-6-sol"
    assert models("playbook", **keys).playbook
    assert models("ollama:llama3.2:3b", **keys).label("chat") == "ollama:llama3.2:3b"


@pytest.mark.parametrize("name", ["gpt-6", "openai:", ":x", "  "])
def test_a_malformed_model_name_is_refused_with_the_form(name: str) -> None:
    with pytest.raises(ConfigError, match="provider:model"):
        models(name)


def test_a_missing_key_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY"):
        models("anthropic:claude-opus-5-5").for_role("chat")


def test_a_missing_package_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match="pip install langchain-ollama"):
        models("ollama:llama3").for_role("chat")


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        models("nonsense:x").for_role("chat")


def test_sampling_parameters_go_only_where_they_are_accepted() -> None:
    old = models("anthropic:claude-haiku-4-5", anthropic_api_key="k").for_role("data")
    new = models("anthropic:claude-sonnet-5-5", anthropic_api_key="k").for_role("data")
    assert old.temperature == 0.2  # type: ignore[attr-defined]
    assert new.temperature is None  # type: ignore[attr-defined]


def test_equal_choices_share_one_model_between_runs() -> None:
    settings = Settings(anthropic_api_key="k")
    assert Models(settings).for_role("chat") is Models(settings).for_role("chat")


async def test_prepare_gives_what_for_role_gives() -> None:
    found = models(anthropic_api_key="k")
    await found.warm("chat")
    assert await found.prepare("chat") is found.for_role("chat")


def test_the_key_is_not_in_the_models_repr() -> None:
    found = models(anthropic_api_key="sk-ant-very-secret")
    assert "very-secret" not in repr(found.for_role("chat")) + found.describe() + repr(found)


def test_prices_count_cached_tokens_at_their_own_rate() -> None:
    price = load_catalog().price
    assert price("anthropic:claude-opus-5-5", 1_000_000, 0, 0) == pytest.approx(4)
    assert price("anthropic:claude-opus-5-5", 1_000_000, 1_000_000, 500_000) == pytest.approx(2 + 20 + 0.1)
    assert price("anthropic:claude-opus-5-5", 1000, 0, 0, 1000) == pytest.approx(0.005)


def test_a_long_prompt_has_its_own_tariff() -> None:
    price = load_catalog().price
    assert price("anthropic:claude-haiku-5-5", 100_000, 1_000_000, 0) == pytest.approx(0.01 + 0.5)
    assert price("anthropic:claude-haiku-5-5", 100_001, 1_000_000, 0) == pytest.approx(0.0500005 + 2.5)


def test_a_dated_name_has_the_price_of_its_model() -> None:
    price = load_catalog().price
    assert price("anthropic:claude-haiku-4-5-20251001", 1000, 0, 0) == pytest.approx(0.001)
    assert price("openai:gpt-6-sol-2026-09-22", 1000, 0, 0) == pytest.approx(0.002)


def test_an_unknown_price_is_none_not_zero() -> None:
    price = load_catalog().price
    assert price("openai:llama", 10, 10, 0) is None
    assert price("nobody:nothing", 0, 0, 0) is None
    assert price("openai:gpt-6.1-sol", 1000, 0, 0, cache_write_tokens=10) is None


def test_usage_reads_the_message() -> None:
    message = AIMessage(
        "x",
        usage_metadata={
            "input_tokens": 1000,
            "output_tokens": 100,
            "total_tokens": 1100,
            "input_token_details": {"cache_read": 500},
        },
    )
    usage = models().usage("anthropic:claude-opus-5-5", message)
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (1000, 100, 500)
    assert usage.usd == pytest.approx((500 * 4 + 500 * 0.2 + 100 * 20) / 1e6)


def test_the_users_file_is_laid_over_the_built_in_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "roles: {critic: {model: 'openai:gpt-6-sol'}, data: {tier: pro}}\n"
        "tiers: {anthropic: {flash: claude-haiku-4-5}}\n"
        "prices: {openai: {llama: {input: 1, output: 2}}}\n"
    )
    found = models(anthropic_api_key="k", models_file=path)
    assert found.label("critic") == "openai:gpt-6-sol"
    assert found.label("data") == "anthropic:claude-opus-5-5"
    assert found.label("router") == "anthropic:claude-haiku-4-5"
    assert found.label("chat") == "anthropic:claude-sonnet-5-5"
    assert found.price("openai:llama", 1_000_000, 0, 0) == pytest.approx(1)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("roles: {data: {teir: pro}}", "roles.data.teir"),
        ("roles: {data: {tier: huge}}", "roles.data.tier"),
        ("roles: {data: {model: gpt}}", "roles.data.model"),
        ("prices: {x: {y: {input: -1, output: 0}}}", "prices.x.y.input"),
        ("models: {}", "models"),
        ("- a list", "mapping"),
        ("roles: {unclosed", "can't be read"),
    ],
)
def test_a_wrong_file_is_refused_by_key(tmp_path: Path, content: str, key: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        models(models_file=path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        models(models_file=tmp_path / "none.yaml")


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert load_catalog(path) == load_catalog()
