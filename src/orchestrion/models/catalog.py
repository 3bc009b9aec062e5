"""The catalogue: tiers, roles and prices from `models.yaml`, with the user's own file laid over it."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrion.core.errors import ConfigError

Tier: TypeAlias = Literal["flash", "standard", "pro"]
_MILLION = 1_000_000
_DATE_SUFFIX = re.compile(r"-(?:\d{8}|\d{4}-\d{2}-\d{2})$")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rates(_Strict):
    """US dollars per million tokens; None where the price is not known."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_read: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)


class LongPromptRates(Rates):
    """The tariff of a request whose prompt is longer than `tokens`."""

    tokens: int = Field(gt=0)


class Price(Rates):
    """The tariff of a model."""

    above: LongPromptRates | None = None


class Role(_Strict):
    """What a role gets: a tier, or a `model` of its own (`provider:name`), and parameters."""

    tier: Tier = "standard"
    model: str | None = Field(default=None, pattern=r"^[^:\s]+:\S+$|^playbook$")
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, gt=0)
    reasoning_effort: str | None = None


class Catalog(_Strict):
    """Everything `models.yaml` says.

    Attributes:
        tiers: Model names by provider and tier.
        roles: What each role gets; a role that is not named gets the standard tier.
        prices: Tariffs by provider and model.
    """

    tiers: dict[str, dict[Tier, str]]
    roles: dict[str, Role]
    prices: dict[str, dict[str, Price]]

    def role(self, name: str) -> Role:
        """Return what the role `name` gets."""
        return self.roles.get(name, Role())

    def price(
        self, label: str, input_tokens: int, output_tokens: int, cache_read_tokens: int, cache_write_tokens: int = 0
    ) -> float | None:
        """Return the cost of a call in US dollars, or None where no price is known.

        Args:
            label: `provider:model`.
            input_tokens: The whole prompt, what was read from and written to the cache included.
            output_tokens: The answer, reasoning included.
            cache_read_tokens: The part of the prompt that came from the cache.
            cache_write_tokens: The part of the prompt that was written to the cache.
        """
        rates = self._rates(label, input_tokens)
        if rates is None:
            return None
        fresh = max(0, input_tokens - cache_read_tokens - cache_write_tokens)
        parts = (
            (fresh, rates.input),
            (output_tokens, rates.output),
            (cache_read_tokens, rates.cache_read),
            (cache_write_tokens, rates.cache_write),
        )
        total = 0.0
        for tokens, rate in parts:
            if tokens and rate is None:
                return None
            total += tokens * (rate or 0.0)
        return total / _MILLION

    def _rates(self, label: str, input_tokens: int) -> Rates | None:
        provider, _, model = label.partition(":")
        known = self.prices.get(provider, {})
        price = known.get(model) or known.get(_DATE_SUFFIX.sub("", model))
        if price is None or price.above is None or input_tokens <= price.above.tokens:
            return price
        return price.above


def _laid_over(below: Any, above: Any) -> Any:
    """Return `below` with `above` laid over it, mapping by mapping."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{key: _laid_over(below.get(key), value) for key, value in above.items()}}


@cache
def _packaged() -> dict[str, Any]:
    text = resources.files("orchestrion.models").joinpath("models.yaml").read_text(encoding="utf-8")
    packaged: dict[str, Any] = yaml.safe_load(text)
    return packaged


def _read(path: Path) -> dict[str, Any]:
    remedy = "Correct the file, or unset ORCHESTRION_MODELS_FILE."
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"The models file {path} can't be read: {reason}.", remedy) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"The models file {path} is not a mapping of tiers, roles and prices.", remedy)
    return content


def load_catalog(path: Path | None = None) -> Catalog:
    """Read the packaged catalogue with the file at `path` laid over it.

    Raises:
        ConfigError: The file can't be read, or one of its keys is wrong; the message names the key.
    """
    raw = _laid_over(_packaged(), _read(path)) if path else _packaged()
    try:
        return Catalog.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"] if part != "[key]")
        what = "is not known" if first["type"] == "extra_forbidden" else f"is wrong: {first['msg']}"
        raise ConfigError(f"In the models file {path}, `{key}` {what}.", "Correct it in that file.") from None
