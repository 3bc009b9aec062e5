"""The models of a run: one chat model per role, built on demand and shared between runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from orchestrion.core.errors import NotFound
from orchestrion.core.events import Usage
from orchestrion.core.settings import Settings
from orchestrion.models.build import build, spec_for
from orchestrion.models.catalog import load_catalog
from orchestrion.models.choice import PLAYBOOK, SANDBOX, TIERS, Choice, choose, offered

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

NOT_A_MODEL = "playbook — not a language model"
_PLAYBOOK_ROLES: dict[str, Literal["chat", "data", "research"]] = {
    "chat": "chat",
    "data": "data",
    "research": "research",
    SANDBOX: "chat",
}


class Models:
    """Which model answers for which role, and the models themselves.

    Args:
        settings: Keys, endpoints, timeouts and the user's models file.
        override: `provider:model` (or `playbook`) for every role; it wins over all settings.

    Raises:
        ConfigError: The models file or a model's name is wrong.
    """

    def __init__(self, settings: Settings, override: str | None = None) -> None:
        self._settings = settings
        self._override = override
        self._catalog = load_catalog(settings.models_file)
        self._built: dict[str, BaseChatModel] = {}
        self._choice("chat")

    def _choice(self, role: str) -> Choice:
        return choose(self._settings, self._catalog, role, self._override)

    def label(self, role: str) -> str:
        """Return `provider:model`, or `playbook`, for `role`."""
        return self._choice(role).label

    @property
    def playbook(self) -> bool:
        """Whether the playbook answers: the model that is none."""
        return self._choice("orchestrator").provider == PLAYBOOK

    def describe(self) -> str:
        """Return one line that says what answers."""
        if self.playbook:
            return f"{NOT_A_MODEL}; set ANTHROPIC_API_KEY or OPENAI_API_KEY for a real one"
        labels: dict[str, list[str]] = {}
        for role in ("orchestrator", "chat", "research", "data"):
            labels.setdefault(self.label(role), []).append(role)
        if len(labels) == 1:
            return next(iter(labels))
        return ", ".join(f"{label} ({', '.join(roles)})" for label, roles in labels.items())

    def for_role(self, role: str) -> BaseChatModel:
        """Return the chat model of `role`. The first real one imports its provider: `prepare` does that off the loop.

        Raises:
            ConfigError: The provider's package or key is missing; the remedy says how to get it.
        """
        if role not in self._built:
            self._built[role] = self._make(role)
        return self._built[role]

    def _make(self, role: str) -> BaseChatModel:
        choice = self._choice(role)
        if choice.provider == PLAYBOOK:
            from orchestrion.models.playbook import PlaybookModel

            return PlaybookModel(role=_PLAYBOOK_ROLES.get(role, "orchestrator"))
        return build(spec_for(self._settings, choice, self._catalog.role(role)))

    async def prepare(self, role: str) -> BaseChatModel:
        """Return the chat model of `role`, built in a thread so that the event loop goes on.

        Raises:
            ConfigError: As for `for_role`.
        """
        if role in self._built:
            return self._built[role]
        return await asyncio.to_thread(self.for_role, role)

    async def warm(self, *roles: str) -> None:
        """Build the models of these roles ahead of the first call.

        Raises:
            ConfigError: As for `for_role`.
        """
        for role in roles or ("chat", "orchestrator"):
            await self.prepare(role)

    def offered(self) -> list[str]:
        """Return the names by which code in a sandbox may ask for a model: tiers, then `provider:model`."""
        names = offered(self._settings, self._catalog, self._override)
        labels = dict.fromkeys(choice.label for choice in names.values())
        return ["default", *TIERS, *labels]

    async def prepare_named(self, name: str) -> tuple[str, BaseChatModel]:
        """Return the label and the model that code in a sandbox asks for by `name`.

        Raises:
            NotFound: There is none of that name; the remedy says which there are.
            ConfigError: As for `for_role`.
        """
        choice = offered(self._settings, self._catalog, self._override).get(name)
        if choice is None:
            known = ", ".join(self.offered()[:12])
            raise NotFound(f"There is no model {name[:100]!r} here.", f"Use one of: {known}.")
        if choice == self._choice(SANDBOX):
            return choice.label, await self.prepare(SANDBOX)
        spec = spec_for(self._settings, choice, self._catalog.role(SANDBOX))
        return choice.label, await asyncio.to_thread(build, spec)

    def price(
        self, label: str, input_tokens: int, output_tokens: int, cache_read_tokens: int, cache_write_tokens: int = 0
    ) -> float | None:
        """Return the cost of a call in US dollars at list price, or None where it is not known; the playbook is free.

        Args:
            label: As `label` returns it.
            input_tokens: The whole prompt, cached parts included.
            output_tokens: The answer, reasoning included.
            cache_read_tokens: The part of the prompt read from the cache.
            cache_write_tokens: The part of the prompt written to the cache.
        """
        if label == PLAYBOOK:
            return 0.0
        return self._catalog.price(label, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens)

    def usage(self, label: str, message: AIMessage) -> Usage:
        """Return what the call that gave `message` used, with its cost."""
        meta = message.usage_metadata
        if meta is None:
            return Usage(usd=self.price(label, 0, 0, 0) if label == PLAYBOOK else None)
        details = meta.get("input_token_details") or {}
        read, written = details.get("cache_read") or 0, details.get("cache_creation") or 0
        tokens = meta["input_tokens"], meta["output_tokens"], read
        return Usage(
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            cache_read_tokens=read,
            usd=self.price(label, *tokens, written),
        )
