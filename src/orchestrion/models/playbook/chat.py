"""Small talk: says what it is, what it can do without a key, and does sums. It never pretends to understand."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable

from langchain_core.messages import AIMessage, BaseMessage

from orchestrion.models.playbook import prompt

_GREETING = re.compile(
    r"^\W*(hi|hello|hey|hullo|yo|good (morning|afternoon|evening|day)|greetings|hallo|guten (tag|morgen|abend)"
    r"|bonjour|salut|hola|ciao|olá|привет|你好|こんにちは|안녕하세요)\b",
    re.IGNORECASE,
)
_THANKS = re.compile(r"^\W*(thanks?|thank you|thx|cheers|danke|merci|gracias)\b", re.IGNORECASE)
_GOODBYE = re.compile(r"^\W*(bye|goodbye|see you|good night|ciao|tschüss|au revoir)\b", re.IGNORECASE)
_SUM = re.compile(r"[-+(]*\d[\d\s.,+\-*/×÷^()%]*[\d)]")

WHAT_I_AM = "I am Orchestrion's built-in playbook, not a language model, so I can't converse freely."
WHAT_I_DO = """Without a model key I can carry two jobs through for real, in a sandbox:

- **Analyse a table**: upload a CSV, TSV, JSON, JSONL, XLSX or Parquet file and say what you want to know; you get \
a report with figures and charts.
- **Research documents**: upload txt, md, html, pdf or docx files, or name URLs, and ask a question; you get a \
report whose every citation quotes a stored source."""
HOW_TO_SET_A_KEY = (
    "For open conversation set `ANTHROPIC_API_KEY` (and `ANTHROPIC_MODEL` if you like), or `OPENAI_API_KEY`, "
    "and start again; `orchestrion doctor` shows what is set."
)

Number = int | float
_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}


def play(messages: list[BaseMessage], tools: list[str]) -> AIMessage:
    """Answer the last message."""
    return AIMessage(_answer(prompt.last_human(messages).strip()))


def _answer(text: str) -> str:
    if (result := _arithmetic(text)) is not None:
        return f"{result}\n\n(I am the built-in playbook, not a language model; sums I can do.)"
    if _THANKS.match(text):
        return "You're welcome. Give me a file and a goal whenever you like."
    if _GOODBYE.match(text):
        return "Goodbye. The session and its files stay where they are."
    opening = f"Hello! {WHAT_I_AM}" if _GREETING.match(text) else WHAT_I_AM
    return f"{opening} {WHAT_I_DO}\n\n{HOW_TO_SET_A_KEY}"


def _arithmetic(text: str) -> str | None:
    """Return `expression = value` if the message is a sum and hardly anything else."""
    match = _SUM.search(text)
    if match is None or len(match[0]) > 80 or not re.search(r"\d\s*[-+*/×÷%]\s*[-(]*\d", match[0]):
        return None
    words = re.findall(r"[^\W\d]+", text.replace(match[0], " "))
    if len(words) > 4:
        return None
    source = re.sub(r"(?<=\d),(?=\d{3}\b)", "", match[0]).replace("×", "*").replace("÷", "/")
    try:
        value = _evaluate(ast.parse(source.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return f"{match[0].strip()} = {value:.12g}" if isinstance(value, float) else f"{match[0].strip()} = {value}"


def _evaluate(node: ast.expr) -> Number:
    """Work out a sum of numbers; anything else is refused with ValueError."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluate(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](_evaluate(node.left), _evaluate(node.right))
    raise ValueError("not a sum")
