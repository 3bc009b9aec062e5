"""What agents can do: each tool is typed, bounded in output, and declares whether it only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

__all__ = ["data_tools", "research_tools"]

READ_ONLY = frozenset({"list_files", "read_file", "list_sources", "search_documents", "read_source", "web_fetch"})


def _declared(tools: list[BaseTool]) -> list[BaseTool]:
    """Say of each tool whether it only reads: such a call may be repeated after a crash."""
    for tool in tools:
        tool.metadata = {**(tool.metadata or {}), "read_only": tool.name in READ_ONLY}
    return tools


def data_tools() -> list[BaseTool]:
    """Return the data agent's tools."""
    from orchestrion.tools.code import execute, execute_code
    from orchestrion.tools.files import list_files, read_file, write_file
    from orchestrion.tools.plan import update_plan
    from orchestrion.tools.report import write_report

    return _declared([list_files, read_file, write_file, execute_code, execute, update_plan, write_report])


def research_tools() -> list[BaseTool]:
    """Return the research agent's tools."""
    from orchestrion.tools.code import execute_code
    from orchestrion.tools.files import list_files, read_file, write_file
    from orchestrion.tools.plan import update_plan
    from orchestrion.tools.report import write_report
    from orchestrion.tools.research import list_sources, read_source, search_documents, web_fetch

    reading = [list_files, read_file, list_sources, search_documents, read_source, web_fetch]
    return _declared([*reading, write_file, execute_code, update_plan, write_report])
