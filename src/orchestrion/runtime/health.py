"""What works here, what is degraded, and how to mend it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from orchestrion.core.errors import OrchestrionError
from orchestrion.core.settings import Settings
from orchestrion.models import Models

if TYPE_CHECKING:
    from orchestrion.sandbox import Sandboxes

_LOW_DISK = 2**30
_LATER = ("GUARDRAILS_", "CONTEXT_COMPRESSION_", "MAX_SUMMARY_TOKENS", "REDIS_URL")
_PROBE_SECONDS = 20


@dataclass(frozen=True)
class Check:
    """One line of the health report.

    Attributes:
        name: What was looked at.
        status: `missing` means that runs which need it are refused.
        detail: One sentence.
        remedy: How to mend it; empty if all is well.
    """

    name: str
    status: Literal["ok", "degraded", "missing"]
    detail: str
    remedy: str = ""


def _model(settings: Settings) -> Check:
    try:
        models = Models(settings)
    except OrchestrionError as error:
        return Check("model", "missing", error.detail, error.remedy)
    if models.playbook:
        return Check(
            "model",
            "degraded",
            "No model key is set: the built-in playbook answers, which is not a language model.",
            "Set ANTHROPIC_API_KEY (and ANTHROPIC_MODEL), or OPENAI_BASE_URL and OPENAI_API_KEY.",
        )
    return Check("model", "ok", models.describe())


async def _sandbox(sandboxes: Sandboxes) -> Check:
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            found = await sandboxes.probe()
    except TimeoutError:
        return Check(
            "sandbox", "missing", "The sandbox probe did not end in time.", "Run `orchestrion doctor` again."
        )
    except OrchestrionError as error:
        return Check("sandbox", "missing", error.detail, error.remedy)
    if not found.ok:
        return Check("sandbox", "missing", found.detail, found.remedy)
    # One that works and still has a remedy could be better: a limit is watched, say, instead of enforced.
    return Check("sandbox", "degraded" if found.remedy else "ok", found.detail, found.remedy)


def _disk(settings: Settings) -> Check:
    free = shutil.disk_usage(settings.home).free
    detail = f"{settings.home} has {free / 2**30:.1f} GiB free."
    if free < _LOW_DISK:
        return Check("disk", "degraded", detail, "Free some space: a full disk ends runs.")
    return Check("disk", "ok", detail)


def _unused_settings() -> list[Check]:
    """Name the settings that are set but do nothing in this version, so that nobody relies on them."""
    found = sorted(name for name in os.environ if name.startswith(_LATER))
    if not found:
        return []
    detail = f"{', '.join(found)}: set, but this version has nothing that would use it."
    return [Check("unused settings", "degraded", detail, "Don't rely on it yet; CHANGELOG.md says when it works.")]


async def check_all(settings: Settings, store: Callable[[], Awaitable[object]], sandboxes: Sandboxes) -> list[Check]:
    """Look at everything.

    Args:
        settings: The effective settings.
        store: Reads something from the store.
        sandboxes: The sandboxes of this process.
    """
    try:
        await store()
        kept = Check("store", "ok", f"SQLite in {settings.home / 'orchestrion.db'}.")
    except OrchestrionError as error:
        kept = Check("store", "missing", error.detail, error.remedy)
    checks = [kept, _model(settings), await _sandbox(sandboxes), await asyncio.to_thread(_disk, settings)]
    return checks + _unused_settings()
