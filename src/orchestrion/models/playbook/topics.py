"""What a goal asks about, and which sentences of a text speak of it: plain rules, for any language."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from itertools import groupby

MOST_TOPICS = 6
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
)
_URL = re.compile(r"https?://\S+")
_FILE = re.compile(r"\b[\w.-]+\.(?:pdf|docx|txt|md|html?|csv|json)\b", re.IGNORECASE)
_CLAUSE = re.compile(
    r"[.,;:?!()\n、，。；：？！]+|(?<=\s)(?:and|or|und|oder|sowie|et|ou|y|o|e|ed|i|oraz|и|или|та|och|og|ja)(?=\s)|[和与及跟並と]"
)
_PARTICLES = re.compile(
    "关于|比较|文件|文档|说法|总结|报告|撰写|について|教えてください|ください|まとめて|比較して|文書|"
    "[的了是在对對有哪些什么麼怎样樣吗嗎请請写寫这這那個个中のはをにがでへもか]+"
)
_SENTENCE = re.compile(
    r"(?<=[.!?…])[\"”’»)\]]*\s+(?=[\w“\"‘«(¿¡])|(?<=[。！？])|\n\s*\n|\n(?=\s*(?:[-*•#|]|\d{1,3}[.)])\s)"
)
_ABBREVIATION = re.compile(
    r"(?:^|\W)(?:\w|Dr|Mr|Mrs|Ms|Prof|Nr|No|Fig|Abb|vs|ca|etc|bzw|St|al|approx)\.$", re.IGNORECASE
)
_ENDED = re.compile(r"[.!?…。！？][\"”’»)\]]*$")
_LEAD = re.compile(r"^\s*(?:(?:[-*•|>]|\d{1,3}[.)])\s+)+")


@dataclass(frozen=True)
class Topic:
    """One thing that a goal asks about.

    Attributes:
        title: As a heading.
        terms: Its words, in lower case.
    """

    title: str
    terms: tuple[str, ...]

    @property
    def query(self) -> str:
        """What to search for."""
        return " ".join(self.terms)


@functools.cache
def _stopwords() -> dict[str, frozenset[str]]:
    """Return the words that carry no subject, by language."""
    text = resources.files("orchestrion.models.playbook").joinpath("stopwords.txt").read_text("utf-8")
    lines = "".join(line + "\n" for line in text.splitlines() if not line.startswith("#")).replace("\n ", " ")
    pairs = (line.partition(":") for line in lines.splitlines())
    return {language: frozenset(words.split()) for language, _, words in pairs}


def stopwords_of(goal: str) -> frozenset[str]:
    """Return the stop words of the language in which a goal seems to be written; English if none shows."""
    words = [word.lower() for word in words_of(goal)]
    return max(_stopwords().values(), key=lambda stop: sum(word in stop for word in words))


def topics_of(goal: str) -> list[Topic]:
    """Return what a goal asks about, in its order; empty if it names no subject."""
    plain = _FILE.sub(" ", _URL.sub(" ", unicodedata.normalize("NFC", goal)))
    stop = stopwords_of(plain)
    topics: dict[tuple[str, ...], Topic] = {}
    for clause in _CLAUSE.split(plain):
        words = _subject_words(clause, stop)
        terms = tuple(dict.fromkeys(word.lower() for word in words))
        if terms and terms not in topics:
            title = " ".join(words)[:80]
            topics[terms] = Topic(title[:1].upper() + title[1:], terms)
    return list(topics.values())[:MOST_TOPICS]


def urls_of(goal: str) -> list[str]:
    """Return the URLs that a goal names."""
    found = (match.group().rstrip(".,;:!?'\"“”»)]}>*_`") for match in _URL.finditer(goal))
    return list(dict.fromkeys(found))


def words_of(text: str) -> list[str]:
    """Return a text's words; scripts without spaces give runs of letters."""
    groups = groupby(text, key=_letter_class)
    return ["".join(letters) for kind, letters in groups if kind]


def _letter_class(letter: str) -> str:
    if _UNSPACED.match(letter):
        return "unspaced"
    return "spaced" if unicodedata.category(letter)[0] in "LNM" else ""


def _subject_words(clause: str, stop: frozenset[str]) -> list[str]:
    words = [part for word in words_of(clause) for part in _PARTICLES.split(word) if part]
    return [word for word in words if word.lower() not in stop and (len(word) > 1 or word.isdigit())]


def headed_sentences(text: str) -> list[tuple[str, str]]:
    """Return a text's sentences, each with the heading it stands under; empty where none shows."""
    found: list[tuple[str, str]] = []
    heading = ""
    block: list[str] = []
    lines = text.split("\n")
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if _is_heading(line, following):
            found += [(heading, sentence) for sentence in sentences_of("\n".join(block))]
            heading, block = line.strip("# "), []
        else:
            block.append(line)
    return found + [(heading, sentence) for sentence in sentences_of("\n".join(block))]


def _is_heading(line: str, following: str) -> bool:
    """Say whether a line is a heading: marked as one, or short, unended, and followed by a far longer one."""
    line, following = line.strip(), following.strip()
    if line.startswith("#"):
        return True
    short = 0 < len(line) <= 60 and line[-1] not in ".!?…:;,|。！？、，"
    begins = following[:1].isalpha() and not following[:1].islower()
    return short and begins and len(following) >= 1.4 * len(line)


def is_complete(sentence: str) -> bool:
    """Say whether a sentence ends as one, unlike a title or a row of a table."""
    return bool(_ENDED.search(sentence))


def sentences_of(text: str) -> list[str]:
    """Return a text's sentences, each a run of the text's own words with single spaces."""
    merged: list[str] = []
    for piece in _SENTENCE.split(text):
        if merged and _ABBREVIATION.search(merged[-1][-12:]) and piece:
            merged[-1] = f"{merged[-1]} {piece}"
        elif piece:
            merged.append(piece)
    plain = (" ".join(_LEAD.sub("", piece).split()).rstrip(" |") for piece in merged)
    return [sentence for sentence in plain if _is_sentence(sentence)]


def _is_sentence(sentence: str) -> bool:
    unspaced = len(_UNSPACED.findall(sentence))
    if unspaced:
        return unspaced >= 8 and len(sentence) <= 400
    return 25 <= len(sentence) <= 600 and len(words_of(sentence)) >= 4


def matches(sentence: str, terms: Iterable[str]) -> int:
    """Count the terms of which a sentence speaks, in whatever inflection."""
    low = sentence.lower()
    words = words_of(low)
    return sum(_matches(low, words, term) for term in terms)


def _matches(low: str, words: list[str], term: str) -> bool:
    if _UNSPACED.match(term):
        return any(term[at : at + 2] in low for at in range(max(1, len(term) - 1)))
    stem = term[:-2] if len(term) >= 6 else term
    return any(word == term or (len(term) >= 4 and word.startswith(stem)) for word in words)


def central(sentences: list[str], count: int) -> list[str]:
    """Return the sentences that hold most of what their text keeps coming back to, in the text's order."""
    stop = stopwords_of(" ".join(sentences))
    words_in = {sentence: _subject_words(sentence, stop) for sentence in sentences}
    frequency = Counter(word.lower() for words in words_in.values() for word in set(words))

    def weight(sentence: str) -> float:
        words = words_in[sentence]
        mean = sum(frequency[word.lower()] for word in words) / (len(words) + 4)
        return mean if is_complete(sentence) else mean / 4

    best = sorted(range(len(sentences)), key=lambda at: (-weight(sentences[at]), at))[:count]
    return [sentences[at] for at in sorted(best)]
