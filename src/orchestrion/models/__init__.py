"""Language models: which one answers for which role, its price, its errors and its retries."""

from __future__ import annotations

from orchestrion.models.catalog import Catalog, Price, Role, load_catalog
from orchestrion.models.choice import PLAYBOOK
from orchestrion.models.complete import broken_off, require_end
from orchestrion.models.errors import explain, is_model_error, is_transient, retry_after, status_of
from orchestrion.models.registry import NOT_A_MODEL, Models
from orchestrion.models.retry import with_retries
from orchestrion.models.secrets import scrub

__all__ = [
    "NOT_A_MODEL",
    "PLAYBOOK",
    "Catalog",
    "Models",
    "Price",
    "Role",
    "broken_off",
    "explain",
    "is_model_error",
    "is_transient",
    "load_catalog",
    "require_end",
    "retry_after",
    "scrub",
    "status_of",
    "with_retries",
]
