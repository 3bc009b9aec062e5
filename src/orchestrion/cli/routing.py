"""`orchestrion route`: ask the supervisor, run nothing."""

from __future__ import annotations

from orchestrion.cli.files import check_files
from orchestrion.cli.options import print_json
from orchestrion.core.errors import InvalidInput


def show_route(text: str, names: list[str], *, as_json: bool) -> None:
    """Print the decision.

    Raises:
        OrchestrionError: The goal is empty, or a file can't be read.
    """
    from orchestrion.runtime.supervisor import decide

    if not text.strip():
        raise InvalidInput("The goal is empty.", "Say what you want to have routed.")
    files = [path.name for path in check_files(names)]
    decision = decide(text, files)
    if as_json:
        skill = {"skill": decision.skill} if decision.skill else {}
        print_json({"agent": decision.agent, **skill, "reason": decision.reason, "by": decision.by})
        return
    with_skill = f" with skill {decision.skill}" if decision.skill else ""
    print(f"{decision.agent}{with_skill} — {decision.reason} (decided by {decision.by})")
