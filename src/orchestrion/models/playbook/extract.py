"""Makes a report out of sentences that stand in the sources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestrion.models.playbook.topics import Topic, central, headed_sentences, is_complete, matches

_FOR_TOPIC = 6
_ENOUGH = 2
_FOR_SOURCE = 3
_MOST_SOURCES = 12
_NUMBERED_NOTE = re.compile(r"\s*\[\[?\d{1,3}\]?\]")


@dataclass(frozen=True)
class Passage:
    """A passage as a tool returned it."""

    source: str
    offset: int
    text: str


@dataclass
class Findings:
    """What the tools brought.

    Attributes:
        titles: Of the sources, by id.
        origins: Where each came from.
        passages: By the query that found them, best first.
        openings: The beginning of each source that was read.
        unreadable: One line for each source that could not be had.
    """

    titles: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    passages: dict[str, list[Passage]] = field(default_factory=dict)
    openings: dict[str, str] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Sentence:
    source: str
    text: str


def report_arguments(goal: str, topics: list[Topic], findings: Findings) -> dict[str, Any]:
    """Return the arguments of `write_report`.

    Args:
        goal: In the user's words.
        topics: What it asks about.
        findings: What the tools brought.
    """
    found = {topic: _sentences_for(topic, findings) for topic in topics}
    answered = {topic: sentences for topic, sentences in found.items() if sentences}
    sections = [_key_findings(answered, findings)] if findings.titles else []
    sections += [_topic_section(topic, sentences, findings) for topic, sentences in answered.items()]
    sections += list(_source_sections(findings))
    sections.append(_gaps([topic for topic in topics if topic not in answered], answered, findings))
    return {"title": _title(goal, topics), "sections": sections}


def _title(goal: str, topics: list[Topic]) -> str:
    if topics:
        return ", ".join(topic.title if at == 0 else _lower(topic.title) for at, topic in enumerate(topics[:4]))
    line = " ".join(goal.split())
    return line if 0 < len(line) <= 90 else f"{line[:89]}…" if line else "Report"


def _lower(title: str) -> str:
    """Lower a heading's first letter, unless its first word is a name in capitals."""
    return title if title[1:2].isupper() or title[1:2].isdigit() else title[:1].lower() + title[1:]


def _sentences_for(topic: Topic, findings: Findings) -> list[_Sentence]:
    """Return the sentences that speak of a topic, the fullest first, sources taking turns.

    A heading speaks for the sentences under it, but what a sentence says itself counts more; figures break a tie.
    Titles and rows of tables serve only where no sentence does.
    """
    candidates: dict[_Sentence, tuple[int, int, bool, int]] = {}
    for rank, passage in enumerate(findings.passages.get(topic.query, [])):
        for heading, text in headed_sentences(passage.text):
            covered = matches(f"{heading}\n{text}", topic.terms)
            if covered:
                order = (-covered, -matches(text, topic.terms), not any(map(str.isdigit, text)), rank)
                candidates.setdefault(_Sentence(passage.source, text), order)
    ordered = sorted(candidates, key=lambda sentence: candidates[sentence])
    complete = [sentence for sentence in ordered if is_complete(sentence.text)] or ordered
    # A sentence with half of the words is a guess beside one that has them all.
    close = [sentence for sentence in complete if 2 * candidates[sentence][0] < candidates[complete[0]][0]]
    return _in_turns(close if len(close) >= _ENOUGH else complete[:_ENOUGH])[:_FOR_TOPIC]


def _in_turns(sentences: list[_Sentence]) -> list[_Sentence]:
    """Order sentences so that each source's best comes before any source's second best."""
    seen: dict[str, int] = {}
    turns: list[tuple[int, int]] = []
    for at, sentence in enumerate(sentences):
        turns.append((seen.get(sentence.source, 0), at))
        seen[sentence.source] = seen.get(sentence.source, 0) + 1
    return [sentences[at] for _, at in sorted(turns)]


def _key_findings(answered: dict[Topic, list[_Sentence]], findings: Findings) -> dict[str, Any]:
    if answered:
        leads = [(f"**{topic.title}:** ", sentences[0]) for topic, sentences in answered.items()]
    else:
        leads = [
            (f"**{_plain(findings.titles[source])}:** ", _Sentence(source, text))
            for source, opening in list(findings.openings.items())[:_MOST_SOURCES]
            for text in central(_sentences(opening), 1)
        ]
    if not leads:
        return {"heading": "Key findings", "text": "None of the sources has a sentence that could be quoted."}
    return _section("Key findings", leads)


def _topic_section(topic: Topic, sentences: list[_Sentence], findings: Findings) -> dict[str, Any]:
    by_source: dict[str, list[_Sentence]] = {}
    for sentence in sentences:
        by_source.setdefault(sentence.source, []).append(sentence)
    lines: list[str] = []
    citations: list[dict[str, str]] = []
    for source, group in by_source.items():
        lines.append(f"*{_plain(findings.titles.get(source, source))}* says:\n")
        lines += [_bullet("", sentence, citations) for sentence in group]
        lines.append("")
    return {"heading": topic.title, "text": "\n".join(lines).strip(), "citations": citations}


def _source_sections(findings: Findings) -> Iterator[dict[str, Any]]:
    """Say what each source is about, by the sentences that hold most of it."""
    for source, opening in list(findings.openings.items())[:_MOST_SOURCES]:
        sentences = central(_sentences(opening), _FOR_SOURCE)
        if sentences:
            title = f"Source: {findings.titles.get(source, source)}"
            intro = f"From {_plain(findings.origins.get(source, ''))}, in its own words:\n\n"
            yield _section(title, (("", _Sentence(source, text)) for text in sentences), intro)


def _sentences(text: str) -> list[str]:
    return list(dict.fromkeys(sentence for _, sentence in headed_sentences(text)))


def _section(heading: str, leads: Iterable[tuple[str, _Sentence]], intro: str = "") -> dict[str, Any]:
    citations: list[dict[str, str]] = []
    lines = [_bullet(lead, sentence, citations) for lead, sentence in leads]
    return {"heading": heading, "text": intro + "\n".join(lines), "citations": citations}


def _bullet(lead: str, sentence: _Sentence, citations: list[dict[str, str]]) -> str:
    citations.append({"source": sentence.source, "quote": sentence.text})
    return f"- {lead}“{_NUMBERED_NOTE.sub('', sentence.text)}” [[{len(citations)}]]"


def _gaps(missing: list[Topic], answered: dict[Topic, list[_Sentence]], findings: Findings) -> dict[str, Any]:
    lines = [f"- The sources have nothing on: {topic.title}." for topic in missing] if findings.titles else []
    for topic, sentences in answered.items():
        unseen = [term for term in topic.terms if not any(matches(s.text, [term]) for s in sentences)]
        if unseen:
            lines.append(f"- On “{topic.title}”, no quoted sentence speaks of: {', '.join(unseen)}.")
    lines += [f"- Not read: {_plain(line)}" for line in findings.unreadable]
    if not findings.titles:
        lines.insert(0, "- There is no readable source, so this report states nothing about the goal.")
    return {
        "heading": "What could not be answered",
        "text": "\n".join(lines) or "Every part of the goal was found in the sources.",
    }


def _plain(text: str) -> str:
    """Return a name as it may stand in running Markdown."""
    return re.sub(r"([*_`\[\]])", r"\\\1", " ".join(text.split()))
