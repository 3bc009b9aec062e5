"""The supervisor: which agent takes a goal, by rules that say why.

The tree is computer → data → research → chat; the first branch that fits wins, and the user's own choice before all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrion.store.models import AgentName, Mode

TABLES = frozenset({"csv", "tsv", "xlsx", "xls", "json", "jsonl", "ndjson", "parquet", "gz"})
DOCUMENTS = frozenset({"pdf", "docx", "txt", "md", "html", "htm", "markdown", "rst"})


@dataclass(frozen=True)
class Decision:
    """Who takes the goal, and why.

    Attributes:
        agent: The agent.
        reason: One sentence for the user.
        by: A rule, a model, or the user's own choice.
        skill: The skill or tool that chat will want, if one is plain from the words.
    """

    agent: AgentName
    reason: str
    by: Literal["rule", "model", "user"] = "rule"
    skill: str | None = None


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(rf"(?:{pattern})" for pattern in patterns), re.IGNORECASE)


_FILE_ENDING = (
    r"(?:csv|tsv|xlsx?|json|jsonl|ndjson|parquet|gz|zip|pdf|docx?|txt|md|html?|rst|py|js|ts|sh|sql|ya?ml|toml|xml|"
    r"ipynb|png|jpe?g|svg)"
)
_SITE = rf"(?:https?://\S+|(?!\S+\.{_FILE_ENDING}\b)(?:[\w-]+\.)+[a-z]{{2,}})"
_BROWSE = _words(
    rf"\b(?:go to|navigate to|open|visit|browse to|log ?in(?:to| to| at)?|sign in(?:to| to| at)?)\s+(?:the )?"
    rf"(?:website |site |page )?{_SITE}",
    rf"\bscreenshots?\b.{{0,200}}(?:{_SITE}|\bpage\b|\bsite\b|\bweb)",
    r"\bfill (?:out|in|up)?\s*(?:the|a|an|this|my|our)?\s*[\w' -]{0,30}\bform\b(?! of\b)",
    r"\bclick (?:on |the )",
)
_ABOUT_CODE = _words(
    r"\bhow (?:do|can|would|to)\b", r"\bwrite (?:(?:a|some|me|the) )?.{0,30}(?:code|script|function|program)\b"
)
_NEAR = 80
_LOOKED_AT = 8_000
_QUESTION = re.compile(
    r"\W*(?:what|why|how|who|when|where|which|is|are|does|explain|describe|define)\b", re.IGNORECASE
)
_NEGATED = re.compile(
    r"\b(?:(?:do|does|did) not|(?:do|does)n['’]?t|never|without|not|no)\s+(?!only\b|just\b)(?:[\w'’-]+\s+){0,3}$",
    re.IGNORECASE,
)
_DATA_NOUN = (
    r"(?:csv|tsv|excel|xlsx|spreadsheet|workbook|parquet|jsonl?|data ?sets?|data ?frame|"
    r"data(?: files?)?|tables?|sales|figures|numbers|records|measurements)"
)
_DATA_VERB = (
    r"(?:analy[sz]e|analysis|chart|plot|graph|visuali[sz]e|profile|clean|summari[sz]e|process|aggregate|"
    r"correlat\w+|statistic\w*|trends?|outliers?|pivot|group|histogram|regress\w*)"
)
_DATA = _words(
    rf"\b{_DATA_VERB}\b.{{0,60}}\b(?:this|that|these|those|the|my|our|attached|uploaded)\b.{{0,30}}\b{_DATA_NOUN}\b",
    rf"\b(?:this|these|my|our|attached|uploaded)\b.{{0,30}}\b{_DATA_NOUN}\b.{{0,60}}\b{_DATA_VERB}\b",
    r"\b(?:do|run|perform|make|carry out|start|need|want)\b.{0,30}\bdata analysis\b",
    r"^\W*data analysis\b",
    r"\b(?:analysier|auswert|visualisier|bereinig)\w*\b.{0,60}\b(?:csv|excel|\w*(?:daten|tabelle|messwerte)\b)",
    r"\b(?:analyse|visualise|nettoie)[rz]?\b.{0,30}\b(?:ces?|cette|les|la|le|mes|notre)\b.{0,30}"
    r"\b(?:données|tableau|csv|excel)\b",
    r"\b(?:analiza|visualiza|limpia)\w*\b.{0,60}\b(?:datos|tabla|csv|excel)\b",
)
_NO_DATA = _words(
    r"\btable (?:tennis|of contents|manners)\b",
    r"\b(?:periodic|round|dinner|kitchen|multiplication) tables?\b",
    r"\bfigures? of speech\b",
    r"\bplot of (?:the|a|this|that) (?:novel|book|film|movie|story|play|series)\b",
)
_DATA_AGAIN = _words(
    rf"\b{_DATA_VERB}\b",
    r"\b(?:mean|median|average|sum|total|count|maximum|minimum|percent\w*|columns?|rows?|per|by)\b",
    r"\b(?:it|data|table|file|again|same|now|variable\w*|dataframe|df)\b",
)
_RESEARCH = _words(
    r"\b(?:comprehensive|in-depth|indepth|exhaustive|thorough|detailed)\b.{0,40}"
    r"\b(?:reports?|research|analysis|study|review|survey|overview)\b(?! of (?:my|our|this)\b)",
    r"\bdeep research\b",
    r"\bresearch\b.{0,60}\b(?:reports?|paper|write|compare|cite|citations?|sources)\b",
    r"\b(?:report|paper|essay|article)\b.{0,60}\b(?:citations?|cited|citing|references|sources)\b",
    r"\b(?:academic|scientific|scholarly)\b.{0,20}\b(?:paper|article|review|study)\b",
    r"\bliterature review\b",
    r"\b(?:market|competit\w+|competitors?)\b.{0,40}\b(?:analysis|research|landscape|trends)\b",
    r"\banaly[sz]e\b.{0,30}\bmarket\b",
    r"\b\d{2,}\+?\s*sources\b",
    r"^\s*research\b(?! (?:shows?|suggests?|says|has|is|indicates?|proves?|found)\b)",
    r"^\s*(?:recherchier|investiga)\w*\b",
    r"\b(?:bericht|rapport|informe)\b.{0,60}\b(?:quellen|sources|fuentes)\b",
)
_QUICK = _words(r"\b(?:quick|quickly|brief|briefly|short|simple)\b.{0,20}\b(?:research|look ?up|search|summary)\b")
_READ = _words(
    r"\b(?:summari[sz]e|report|compare|review|read|cite|quote|according|extract|find|what|which|who|when|why|how|does)\b"
)
_URL = re.compile(r"https?://[^\s<>\"'`)\]}]+", re.IGNORECASE)
_SKILLS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("code_review", _words(r"\breview\b.{0,30}\bcode\b", r"\bcode review\b", r"\bbugs? in (?:this|my)\b")),
    (
        "image_generation",
        _words(
            r"\b(?:generate|create|draw|make|paint|design)\b.{0,30}"
            r"\b(?:image|picture|illustration|logo|photo|painting)\b"
        ),
    ),
    (
        "code_generation",
        _words(
            r"\b(?:write|create|generate|implement)\b.{0,40}\b(?:function|script|code|class|program|regex|sql|query)\b"
        ),
    ),
    ("web_research", _QUICK),
    ("data_visualization", _words(r"\b(?:chart|plot|graph|visuali[sz]ation)\b.{0,20}\b(?:code|script|matplotlib)\b")),
    (
        "simple_writing",
        _words(
            r"\b(?:write|draft|compose|rewrite|polish)\b.{0,40}"
            r"\b(?:email|e-mail|letter|post|poem|story|article|blog|note|message|speech|essay)\b"
        ),
    ),
    (
        "web_search",
        _words(r"\b(?:latest|newest|recent|current|today'?s?|news)\b", r"\bsearch (?:the web|online|for)\b"),
    ),
)


def urls_in(text: str) -> list[str]:
    """Return the http(s) URLs that a text names, without the punctuation after them."""
    return list(dict.fromkeys(url.rstrip(".,;:!?") for url in _URL.findall(text)))


def _asks(pattern: re.Pattern[str], text: str) -> bool:
    """Say whether a text asks for something, not merely says that it is not wanted."""
    starts = (found.start() for found in pattern.finditer(text))
    return any(not _NEGATED.search(text[max(0, start - _NEAR) : start]) for start in starts)


def _ending(path: str) -> str:
    return path.rsplit(".", 1)[-1].lower() if "." in path else ""


def decide(
    goal: str,
    files: Sequence[str] = (),
    *,
    mode: Mode = "auto",
    agent: AgentName | None = None,
    earlier: AgentName | None = None,
) -> Decision:
    """Decide which agent takes a goal.

    Args:
        goal: The user's words.
        files: Names of the files that came with it.
        mode: `chat` forbids a task, `agent` forbids a plain answer.
        agent: The user's own choice.
        earlier: Who carried out the session's last task, for a goal that goes on from there.
    """
    if agent is not None:
        return Decision(agent, f"You chose the {agent} agent.", "user")
    if mode == "chat":
        return Decision("chat", "You asked for a plain answer.", "user", _skill(goal))
    decision = _by_rules(goal[:_LOOKED_AT], files, earlier)  # a text pasted after it is no longer the asking
    if mode == "agent" and decision.agent == "chat":
        return Decision("research", "You asked for a task, and the goal names no data to analyse.", "user")
    return decision


def _by_rules(goal: str, files: Sequence[str], earlier: AgentName | None) -> Decision:
    tables = [name for name in files if _ending(name) in TABLES]
    documents = [name for name in files if _ending(name) in DOCUMENTS]
    return (
        _computer(goal, files)
        or _data(goal, tables, documents, earlier)
        or _research(goal, documents, files, earlier)
        or Decision("chat", "Nothing in the goal needs a browser, data files or research.", "rule", _skill(goal))
    )


def _computer(goal: str, files: Sequence[str]) -> Decision | None:
    sentences = [part for part in re.split(r"(?<=[.!?;])\s+|\n", goal) if not _QUESTION.match(part)]
    if not files and any(_asks(_BROWSE, part) for part in sentences) and not _ABOUT_CODE.search(goal):
        return Decision("computer", "The goal asks to act on a website as a person would.")
    return None


def _data(goal: str, tables: list[str], documents: list[str], earlier: AgentName | None) -> Decision | None:
    research = _asks(_RESEARCH, goal)
    if tables and not (documents and research):
        return Decision("data", f"{tables[0].rsplit('/', 1)[-1]} is a data file.")
    if _asks(_DATA, _NO_DATA.sub(" ", goal)) and not research and not _ABOUT_CODE.search(goal):
        return Decision("data", "The goal asks to analyse data.")
    if earlier == "data" and _DATA_AGAIN.search(goal) and not research:
        return Decision("data", "The goal goes on from the data of this conversation.")
    return None


def _research(goal: str, documents: list[str], files: Sequence[str], earlier: AgentName | None) -> Decision | None:
    if _QUICK.search(goal) and not documents:
        return None
    if _asks(_RESEARCH, goal):
        return Decision("research", "The goal asks for research with a report.")
    if documents:
        return Decision("research", f"{documents[0].rsplit('/', 1)[-1]} is a document to read.")
    if files:
        return Decision("data", f"{files[0].rsplit('/', 1)[-1]} has to be opened to see what it is.")
    if urls_in(goal) and _READ.search(goal):
        return Decision("research", "The goal asks about the contents of a page.")
    if earlier == "research" and _READ.search(goal) and re.search(r"\b(?:documents?|sources?|report)\b", goal, re.I):
        return Decision("research", "The goal goes on from the documents of this conversation.")
    return None


def _skill(goal: str) -> str | None:
    return next((name for name, pattern in _SKILLS if pattern.search(goal)), None)
