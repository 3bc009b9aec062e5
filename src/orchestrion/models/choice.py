"""Which model answers for a role: flag or setting, then Anthropic, then OpenAI-compatible, then the playbook."""

from __future__ import annotations

from typing import NamedTuple, get_args

from orchestrion.core.errors import ConfigError
from orchestrion.core.settings import Settings
from orchestrion.models.catalog import Catalog, Tier

PLAYBOOK = "playbook"
SANDBOX = "sandbox"  # the role of code in a sandbox that calls a model
TIERS: tuple[Tier, ...] = get_args(Tier)


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


def offered(settings: Settings, catalog: Catalog, override: str | None) -> dict[str, Choice]:
    """Return the names by which code in a sandbox may ask for a model, and what each stands for.

    A tier and `default` always work; so does the id of any model that one of them stands for. Unless the operator or
    the run has settled on one model, further models of the catalogue can be had of every provider that is set up, as
    `provider:model` or by their id.

    Args:
        settings: Keys, endpoints and model names.
        catalog: Tiers and prices.
        override: As for `choose`.

    Raises:
        ConfigError: A model name is malformed.
    """
    default = choose(settings, catalog, SANDBOX, override)
    settled = bool(override or settings.model or catalog.role(SANDBOX).model)
    names: dict[str, Choice] = {"default": default}
    names |= {tier: _of_tier(settings, catalog, tier, default, settled) for tier in TIERS}
    choices = list(dict.fromkeys(names.values()))
    if not settled:
        choices += _of_providers(settings, catalog)
    for choice in dict.fromkeys(choices):
        names.setdefault(choice.label, choice)
        if choice.model:
            names.setdefault(choice.model, choice)
    return names


def _of_tier(settings: Settings, catalog: Catalog, tier: Tier, default: Choice, settled: bool) -> Choice:
    provider = configured_provider(settings)
    if settled or provider == PLAYBOOK:
        return default
    named = settings.anthropic_model if provider == "anthropic" else settings.openai_model
    return Choice(provider, named or catalog.tiers[provider][tier])


def _of_providers(settings: Settings, catalog: Catalog) -> list[Choice]:
    found: list[Choice] = []
    for provider, key, url, model in (
        ("anthropic", settings.anthropic_api_key, settings.anthropic_base_url, settings.anthropic_model),
        ("openai", settings.openai_api_key, settings.openai_base_url, settings.openai_model),
    ):
        if key or url:
            known = (model, *catalog.tiers[provider].values(), *catalog.prices.get(provider, {}))
            found += [Choice(provider, name) for name in known if name]
    return found


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
