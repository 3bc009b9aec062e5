"""The supervisor's rules."""

from __future__ import annotations

import pytest

from orchestrion.runtime.supervisor import decide, urls_in

CHAT = [
    ("Generate an image of a sunset", "image_generation"),
    ("Write an email to my team", "simple_writing"),
    ("Create a Python function to sort", "code_generation"),
    ("Review this code for bugs", "code_review"),
    ("What are the latest AI trends?", "web_search"),
    ("Write and run Python code", "code_generation"),
    ("Quick research on topic X", "web_research"),
    ("hello", None),
    ("Explain the plot of Moby Dick", None),
    ("How do I open example.com in Python?", None),
    ("What happens when I click on a link?", None),
    ("What is the best way to fill out a form?", None),
    ("Open report.pdf and tell me what it says", None),
    ("go to node.js docs", None),
    ("Don't open example.com, just tell me what it is known for", None),
    ("Summarise the history of the table tennis", None),
    ("Explain the plot of the novel Numbers", None),
    ("Analyze the table of contents of Moby Dick", None),
    ("What is data analysis?", None),
    ("Write code to analyze this data", "code_generation"),
    ("What does open source mean?", None),
    ("Research shows that coffee is healthy, true?", None),
    ("I don't want a report with sources, just say hi", None),
    ("Don't analyze this data", None),
]
RESEARCH = [
    "Research and write a comprehensive report on quantum computing with 20+ sources",
    "Create an academic paper on climate change",
    "Analyze market trends with detailed competitive analysis",
    "Summarise what https://example.com/a says",
    "Recherchiere die Geschichte der Dampfmaschine",
    "Écris un rapport sur le climat avec des sources",
]
DATA = [
    "Analyze this CSV and create charts",
    "Find trends in this sales data",
    "Process this Excel file and visualize",
    "Not only clean but analyze this data",
    "There are no headers. Analyze this CSV",
    "Analysiere diese CSV-Datei und erstelle Diagramme",
    "Analyse ces données et trace des graphiques",
    "Analiza estos datos y haz gráficos",
]
COMPUTER = [
    "Go to amazon.com and find iPhone price",
    "Fill out the contact form on example.com",
    "Take a screenshot of google.com",
    "Can you go to amazon.com and find the price?",
    "What does an iPhone cost? Open amazon.com and look",
]


@pytest.mark.parametrize(("goal", "skill"), CHAT)
def test_chat(goal: str, skill: str | None) -> None:
    decision = decide(goal)
    assert (decision.agent, decision.skill, decision.by) == ("chat", skill, "rule")


@pytest.mark.parametrize(
    ("agent", "goal"),
    [
        (agent, goal)
        for agent, goals in [("research", RESEARCH), ("data", DATA), ("computer", COMPUTER)]
        for goal in goals
    ],
)
def test_specialists(agent: str, goal: str) -> None:
    decision = decide(goal)
    assert decision.agent == agent
    assert decision.reason.endswith(".")


def test_files_decide() -> None:
    assert decide("What is in here?", ["uploads/a.csv"]).agent == "data"
    assert decide("What is in here?", ["uploads/a.pdf"]).agent == "research"
    assert decide("Write a report with citations", ["a.pdf", "b.csv"]).agent == "research"
    assert decide("What is in here?", ["uploads/a.bin"]).agent == "data"


def test_the_users_choice_wins() -> None:
    assert decide("Analyze this CSV", agent="research").by == "user"
    assert decide("Analyze this CSV", mode="chat").agent == "chat"
    assert decide("hello", mode="agent").agent == "research"


def test_the_conversation_counts() -> None:
    assert decide("Now the mean by region").agent == "chat"
    assert decide("Now the mean by region", earlier="data").agent == "data"


def test_a_huge_goal_is_decided_on_its_beginning() -> None:
    assert decide("Analyze this CSV. " + "screenshot " * 18_000).agent == "data"
    assert decide("don't analyze this data " * 8_000).agent == "chat"


def test_urls() -> None:
    assert urls_in("See https://a.example/x?y=1, and (http://b.example).") == [
        "https://a.example/x?y=1",
        "http://b.example",
    ]
