"""Which model answers for a role: flag or setting, then Anthropic, then OpenAI-compatible, then the playbook."""

from __future__ import annotations

from typing import NamedTuple

from orchestrion.core.errors import ConfigError
from orchestrion.core.settings import Settings
from orchestrion.models.catalog import Catalog

PLAYBOOK = "playbook"


class Choice(NamedTuple):
    """A model by provider and name; the playbook has no name."""

    provider: str
    model: str = ""

    @property
    def label(self) -> str:
        """`provider:model`, or `playbook`."""
        return f"{self.provider}:{self.model}" if self.model else self.provider


def parse_choice(text: str) -> Choice:
    """Read `provider:model` or `playbook`.

    Raises:
        ConfigError: It is neither.
    """
    provider, separator, model = text.strip().partition(":")
    if text.strip() == PLAYBOOK:
        return Choice(PLAYBOOK)
    if not (provider and separator and model):
        raise ConfigError(
            f"`{text}` does not name a model.",
            "Write provider:model, such as anthropic:claude-sonnet-5-5, or playbook.",
        )
    return Choice(provider.replace("-", "_"), model)


def configured_provider(settings: Settings) -> str:
    """Return the provider that the settings point at: `anthropic`, `openai` or `playbook`."""
    if settings.anthropic_api_key or settings.anthropic_base_url:
        return "anthropic"
    if settings.openai_api_key or settings.openai_base_url:
        return "openai"
    return PLAYBOOK


def choose(settings: Settings, catalog: Catalog, role: str, override: str | None) -> Choice:
    """Return the model for `role`.

    Args:
        settings: Keys, endpoints and model names.
        catalog: Tiers and roles.
        role: Who asks.
        override: `provider:model` for this run; it wins over everything.

    Raises:
        ConfigError: A model name is malformed.
    """
    wanted = catalog.role(role)
    explicit = override or settings.model or wanted.model
    if explicit:
        return parse_choice(explicit)
    provider = configured_provider(settings)
    if provider == PLAYBOOK:
        return Choice(PLAYBOOK)
    named = settings.anthropic_model if provider == "anthropic" else settings.openai_model
    return Choice(provider, named or catalog.tiers[provider][wanted.tier])
