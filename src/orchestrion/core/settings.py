"""Settings: environment first, then `ORCHESTRION_HOME/config.toml`, then the defaults below.

Names of the field (`ANTHROPIC_API_KEY`, `SANDBOX_MODE`, …) are used as they are; all others begin with
`ORCHESTRION_`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from orchestrion.core.errors import ConfigError

SandboxMode = Literal["local", "microvm", "e2b", "hybrid"]
_PREFIX = "ORCHESTRION_"


def default_home() -> Path:
    """Return `ORCHESTRION_HOME`, or `~/.orchestrion`."""
    return Path(os.environ.get("ORCHESTRION_HOME") or "~/.orchestrion").expanduser().absolute()


def _named(name: str, **kwargs: Any) -> Any:
    """Return a field that is read from the environment variable `name`, without our prefix."""
    return Field(default=None, validation_alias=name, **kwargs)


class _ConfigFile(TomlConfigSettingsSource):
    """`config.toml`; a setting may be written by its field's name or as its environment variable."""

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        names = {environment_name(field): field for field in Settings.model_fields}
        return {names.get(key, key): value for key, value in super()._read_file(file_path).items()}


class Settings(BaseSettings):
    """Everything that can be set. In `config.toml` the keys are the names of these fields or of their variables."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        extra="forbid",
        populate_by_name=True,
        hide_input_in_errors=True,
        env_ignore_empty=True,
    )

    home: Path = Field(default_factory=default_home, description="The data directory")

    anthropic_api_key: SecretStr | None = _named("ANTHROPIC_API_KEY", description="Key for Anthropic's API")
    anthropic_model: str | None = _named("ANTHROPIC_MODEL", description="Anthropic model for every tier")
    anthropic_base_url: str | None = _named("ANTHROPIC_BASE_URL", description="Another Anthropic endpoint")
    openai_api_key: SecretStr | None = _named("OPENAI_API_KEY", description="Key for an OpenAI-compatible API")
    openai_model: str | None = _named("OPENAI_MODEL", description="OpenAI-compatible model for every tier")
    openai_base_url: str | None = _named("OPENAI_BASE_URL", description="An OpenAI-compatible endpoint, …/v1")
    model: str | None = Field(default=None, description="provider:model for every role; playbook for none")
    models_file: Path | None = Field(default=None, description="Your own models.yaml, laid over the built-in one")
    model_timeout_seconds: float = Field(default=300, gt=0, description="Longest wait for one model call")
    model_retries: int = Field(default=4, ge=0, le=20, description="Further tries after 429, 5xx and overload")

    sandbox_mode: SandboxMode = Field(
        default="hybrid",
        validation_alias="SANDBOX_MODE",
        description=(
            "hybrid takes the strongest that works here: E2B where E2B_API_KEY is set, else this machine's own"
        ),
    )
    sandbox_python: Path | None = Field(default=None, description="Interpreter with pandas and friends for sandboxes")
    sandbox_memory_mb: int = Field(default=4096, ge=256, description="Memory of one sandbox")
    sandbox_processes: int = Field(default=256, ge=16, description="Processes of one sandbox")
    sandbox_idle_seconds: int = Field(
        default=600, ge=5, description="An unused sandbox ends after this long; files stay"
    )
    sandbox_pause_seconds: float = Field(
        default=120, gt=0, description="A session's unused sandbox is paused after this long"
    )
    sandbox_max: int = Field(default=64, ge=1, description="Sandboxes that run at once")
    sandbox_max_per_owner: int = Field(default=20, ge=1, description="Of these, one owner's")
    sandbox_pool: int | None = Field(
        default=None, ge=0, le=64, description="Sandboxes kept ready; 1 in a server, none in other commands"
    )
    e2b_api_key: SecretStr | None = _named("E2B_API_KEY", description="Key for E2B or a compatible endpoint")
    e2b_domain: str | None = _named("E2B_DOMAIN", description="A compatible endpoint's domain")
    sandbox_egress: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="What code in sandboxes may reach: hosts, *.host, addresses, CIDR, *; separated by commas",
    )
    sandbox_registries: bool = Field(default=False, description="Also the package registries: PyPI, npm, Debian, …")
    sandbox_models: bool = Field(default=True, description="Whether code in a run's sandbox may call its models")
    tool_timeout_seconds: float = Field(default=300, gt=0, description="Longest run of one tool call")

    max_steps: int = Field(default=60, ge=1, description="Model calls in one run")
    budget_usd: float | None = Field(default=None, gt=0, description="Money for one run")
    budget_tokens: int | None = Field(default=None, gt=0, description="Tokens for one run")
    timeout_seconds: float = Field(default=3600, gt=0, description="Wall time of one run")
    max_concurrent_runs: int = Field(default=128, ge=1, description="Runs at once in this process")

    host: str = Field(default="127.0.0.1", description="Address to listen on")
    port: int = Field(default=8700, ge=0, le=65535, description="Port to listen on")
    api_keys: Annotated[list[SecretStr], NoDecode] = Field(
        default_factory=list, description="Bearer keys, separated by commas"
    )
    allowed_hosts: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="Further names this server is reached by, separated by commas"
    )
    upload_limit_mb: int = Field(default=1024, ge=1, description="Largest upload")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="warning", description="Least level logged"
    )
    log_format: Literal["console", "json"] = Field(default="console", description="How log lines look")

    @field_validator("api_keys", "allowed_hosts", "sandbox_egress", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("api_keys")
    @classmethod
    def _can_be_sent(cls, keys: list[SecretStr]) -> list[SecretStr]:
        """Refuse a key that no request could carry; an empty one would let everyone in."""
        for key in keys:
            value = key.get_secret_value()
            if not value or not value.isascii() or not value.isprintable() or " " in value:
                raise ValueError("A key must be made of visible ASCII characters")
        return keys

    @field_validator("home", "models_file", "sandbox_python", mode="after")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value else None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags over environment over `config.toml`."""
        toml = _ConfigFile(settings_cls, default_home() / "config.toml")
        return init_settings, env_settings, toml


@dataclass(frozen=True)
class SettingOrigin:
    """One line of `orchestrion config show`."""

    name: str
    value: str
    origin: str
    description: str


def environment_name(field: str) -> str:
    """Return the environment variable that sets `field`."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else _PREFIX + field.upper()


def _refuse_unknown_variables() -> None:
    known = {environment_name(field) for field in Settings.model_fields}
    for name in os.environ:
        if name.startswith(_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"Did you mean {near[0]}?" if near else "`orchestrion config show` lists the settings."
            raise ConfigError(f"{name} is not a setting of Orchestrion.", hint)


def _sentence(error: ValidationError) -> str:
    """Turn pydantic's report into one sentence that names the setting as the user wrote it."""
    first = error.errors(include_input=False, include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "?"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(field, Settings.model_fields, 1)
        return f"`{field}` is not a setting of Orchestrion." + (f" Did you mean `{near[0]}`?" if near else "")
    name = environment_name(field) if field in Settings.model_fields else field
    return f"The setting {name} is malformed: {first['msg'][0].lower()}{first['msg'][1:]}."


def load_settings(**flags: Any) -> Settings:
    """Read all settings.

    Args:
        flags: Values from the command line, by field name; `None` means not given.

    Raises:
        ConfigError: One is unknown or malformed, or `config.toml` can't be read.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise ConfigError(_sentence(error), "Correct it in the environment or in config.toml.") from None
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{default_home() / 'config.toml'} can't be read: {error}.", "Correct or remove it."
        ) from None


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return "•••• (set)"
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value)
    return "" if value is None else str(value)


def describe(settings: Settings) -> list[SettingOrigin]:
    """Return each setting's effective value, secrets masked, and where it came from."""
    path = default_home() / "config.toml"
    in_file = tomllib.loads(path.read_text()) if path.is_file() else {}
    lines: list[SettingOrigin] = []
    for field, info in Settings.model_fields.items():
        variable = environment_name(field)
        if os.environ.get(variable):
            origin = f"environment ({variable})"
        elif field in in_file or variable in in_file:
            origin = "config.toml"
        else:
            origin = "default"
        lines.append(SettingOrigin(variable, _shown(getattr(settings, field)), origin, info.description or ""))
    return lines
