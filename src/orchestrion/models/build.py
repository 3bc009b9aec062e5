"""Build a LangChain chat model from a specification; equal specifications share one model and its connections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from orchestrion.core.errors import ConfigError
from orchestrion.core.settings import Settings
from orchestrion.models.catalog import Role
from orchestrion.models.choice import Choice
from orchestrion.models.secrets import scrub

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_KEYLESS = "no-key-needed"
_SAMPLING = ("temperature", "top_p")


@dataclass(frozen=True)
class Spec:
    """All that a model is built from.

    Attributes:
        timeout: Longest silence of the provider, in seconds.
    """

    choice: Choice
    role: Role
    api_key: SecretStr | None
    base_url: str | None
    timeout: float


def spec_for(settings: Settings, choice: Choice, role: Role) -> Spec:
    """Return the specification, with the key and the endpoint from the settings.

    Raises:
        ConfigError: The provider's key is missing.
    """
    key, url = None, None
    if choice.provider == "anthropic":
        key, url = settings.anthropic_api_key, settings.anthropic_base_url
    elif choice.provider == "openai":
        key, url = settings.openai_api_key, settings.openai_base_url
    if choice.provider in {"anthropic", "openai"} and not key:
        if not url:
            variable = f"{choice.provider.upper()}_API_KEY"
            raise ConfigError(f"{choice.label} needs a key.", f"Set {variable} in the environment.")
        key = SecretStr(_KEYLESS)
    return Spec(choice, role, key, url, settings.model_timeout_seconds)


def _arguments(spec: Spec) -> dict[str, Any]:
    """Return the constructor's arguments. Retries are ours, so that they are counted, shown and cancellable."""
    arguments: dict[str, Any] = {"max_retries": 0, "timeout": spec.timeout, "streaming": True, "stream_usage": True}
    if spec.api_key:
        arguments["api_key"] = spec.api_key
    if spec.base_url:
        arguments["base_url"] = spec.base_url
    if spec.choice.provider == "openai":
        arguments["stream_chunk_timeout"] = spec.timeout
        if spec.base_url:
            # Compatible servers speak Chat Completions; only OpenAI's own has the Responses API.
            arguments["use_responses_api"] = False
    if spec.role.max_tokens:
        arguments["max_tokens"] = spec.role.max_tokens
    if spec.role.reasoning_effort:
        arguments["reasoning_effort"] = spec.role.reasoning_effort
    return arguments


def _sampling(spec: Spec, model: BaseChatModel) -> dict[str, float]:
    """Return the sampling parameters that this model accepts; newer reasoning models answer them with a 400."""
    profile = dict(getattr(model, "profile", None) or {})
    if not profile.get("temperature", spec.base_url is not None):
        return {}
    wanted = {name: getattr(spec.role, name) for name in _SAMPLING if name in type(model).model_fields}
    return {name: value for name, value in wanted.items() if value is not None}


def _accepted(model: BaseChatModel, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that the model's class knows, by field name or alias."""
    fields = type(model).model_fields
    names = {*fields, *(field.alias for field in fields.values() if field.alias)}
    return {name: value for name, value in arguments.items() if name in names}


def _construct(spec: Spec) -> BaseChatModel:
    # Imported here because it costs a second, and the playbook needs none of it.
    from langchain.chat_models import init_chat_model

    name, provider = spec.choice.model, spec.choice.provider
    arguments = _arguments(spec)
    if provider not in {"anthropic", "openai"}:
        arguments = _accepted(init_chat_model(name, model_provider=provider), arguments)
    model: BaseChatModel = init_chat_model(name, model_provider=provider, **arguments)
    sampling = _sampling(spec, model)
    if sampling:
        model = init_chat_model(name, model_provider=provider, **{**arguments, **sampling})
    return model


def _remedy(error: Exception, provider: str) -> str:
    package = re.search(r"pip install (?:-U )?[`'\"]?([\w.-]+)", str(error))
    if isinstance(error, ImportError):
        return f"Run: pip install {package.group(1) if package else 'langchain-' + provider.replace('_', '-')}"
    return f"Check the provider's name and the variables it reads, such as {provider.upper()}_API_KEY."


@lru_cache(maxsize=64)
def build(spec: Spec) -> BaseChatModel:
    """Return the model, built once per specification in this process.

    Raises:
        ConfigError: The provider is not known, its package is not installed, or it lacks a key.
    """
    try:
        model = _construct(spec)
    except Exception as error:
        # Every provider package refuses in a way of its own; whatever it raises here is about configuration.
        reason = scrub(" ".join(str(error).split()))[:500].rstrip(".")
        detail = f"The model {spec.choice.label} can't be set up: {reason}."
        raise ConfigError(detail, _remedy(error, spec.choice.provider)) from error
    # Some clients are made at first use, and TLS set-up takes tens of milliseconds: do it here, off the event loop.
    getattr(model, "_async_client", None)
    return model
