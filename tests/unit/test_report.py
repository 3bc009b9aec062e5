from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.core.errors import Conflict, InvalidInput
from orchestrion.store.workspace import Workspace
from orchestrion.tools.rendering import escape_quote, escape_title, safe_text
from orchestrion.tools.report import Citation, Report, Section, build_report, verify_report
from orchestrion.tools.sources import Document, add_source

COST = "Battery cost fell by 40 % in ten years.\nThe “learning\nrate” was 18 %."
COSTS = "Costs \\[2024\\] &lt;i&gt;"
LIFE = "Cells last twelve years [3]. <b>Recycling</b> recovers 95 % of `nickel`."


@pytest.fixture
async def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    await made.write_bytes("charts/cost by year.png", b"png")
    for title, text, origin in [
        ("Costs [2024] <i>", COST, "uploads/costs.pdf"),
        ("Lifetimes", LIFE, "https://e.example/a(b)?c=<d>"),
    ]:
        await add_source(made, Document(title=title, text=text, kind="txt"), origin, "1", origin)
    return made


def cite(source: str, quote: str) -> Citation:
    return Citation(source=source, quote=quote)


async def built(workspace: Workspace, *sections: Section, title: str = "A report") -> Report:
    report = await build_report(workspace, title, list(sections))
    await workspace.write_text("report.md", report.markdown)
    await workspace.write_text("citations.json", json.dumps([c.model_dump() for c in report.cited]))
    return report


async def test_a_report_is_rendered_with_numbers_charts_and_sources(workspace: Workspace) -> None:
    report = await built(
        workspace,
        Section(
            heading="Cost",
            text="It fell [[1]], fast [[2]].",
            charts=["charts/cost by year.png"],
            citations=[cite("S1", "Battery cost fell by 40 %"), cite("S1", 'The "learning rate" was 18 %')],
        ),
        Section(
            heading="Life",
            text="Long [[1]]; as said [[2]].",
            citations=[cite("s2", "Cells last twelve years"), cite("sources/S1.md", "Battery cost  fell by 40 %")],
        ),
    )
    assert report.markdown == (
        "# A report\n\n## Cost\n\nIt fell [1], fast [2].\n\n![Cost by year](charts/cost%20by%20year.png)\n\n"
        "## Life\n\nLong [3]; as said [1].\n\n## Sources\n\n"
        f"1. **{COSTS}** (uploads/costs.pdf) — “Battery cost fell by 40 %” [sources/S1.md](sources/S1.md)\n"
        f"2. **{COSTS}** (uploads/costs.pdf) — “The “learning rate” was 18 %” [sources/S1.md](sources/S1.md)\n"
        "3. **Lifetimes** (<https://e.example/a(b)?c=%3Cd%3E>) — “Cells last twelve years” "
        "[sources/S2.md](sources/S2.md)\n"
    )
    entries = json.loads(await workspace.read_text("citations.json"))
    assert [(e["n"], e["source"], e["stored"], e["offset"]) for e in entries] == [
        (1, "S1", "sources/S1.md", 0),
        (2, "S1", "sources/S1.md", COST.index("The")),
        (3, "S2", "sources/S2.md", 0),
    ]
    assert await verify_report(workspace) == []


async def test_citations_that_don_t_hold_are_removed_with_their_markers(workspace: Workspace) -> None:
    report = await built(
        workspace,
        Section(
            text="One [[1]]. Two [[2]][[3]]. Three [[4]]. Four [[1,5]]. Five [[9]].",
            citations=[
                cite("S1", "Battery cost fell by 90 %"),
                cite("S7", "Battery cost fell by 40 %"),
                cite("S1", "The “learning rate”"),
                cite("S1", "Cells last twelve years"),
                cite("S2", ""),
            ],
        ),
    )
    assert "One. Two [1]. Three. Four. Five." in report.markdown
    assert [(r.source, r.reason) for r in report.removed] == [
        ("S1", "These words are not in S1."),
        ("S7", "There is no source 'S7'. Sources: S1, S2."),
        ("S1", "It stands in S2, not in S1."),
        ("S2", "These words are not in S2."),
    ]
    assert report.stray == ["[[9]]"]
    assert "## Removed citations\n" in report.markdown
    assert report.markdown.index("## Removed citations") < report.markdown.index("## Sources")
    assert "Battery cost fell by 90 %" in report.markdown
    assert await verify_report(workspace) == []


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("No marker.", "No marker. [1][2]"),
        ("Both [[1, 2]].", "Both [1][2]."),
        ("Both [[1]] [[2]].", "Both [1][2]."),
        ("Caret [[^1]] and [[ 2 ]].", "Caret [1] and [2]."),
        ("Plain [1] and [2].", "Plain [1] and [2]."),
        ("Link [[1]](http://x.example) [[2]]: so", "Link [1] (http://x.example) [2] : so"),
        ("Bare run [1][2], [9][1].", "Bare run [1][2], [1]."),
        ("Code `a[[1]]` [[1]] [[2]]", "Code `a[[1]]` [1][2]"),
        ("```\nx[[1]]\n```\n[[1]] [[2]]", "```\nx[[1]]\n```\n[1][2]"),
        ("Index x[1] and [a link](u) [[1]] [[2]]", "Index x[1] and [a link](u) [1][2]"),
        ("Stray [7] here [[1]] [[2]]", "Stray here [1][2]"),
        ("Dup [[1]][[1]] [[2]]", "Dup [1][2]"),
    ],
)
async def test_markers_are_healed(workspace: Workspace, text: str, rendered: str) -> None:
    citations = [cite("S1", "Battery cost fell"), cite("S2", "Cells last")]
    report = await built(workspace, Section(text=text, citations=citations))
    assert report.markdown.split("\n\n", 1)[1].split("\n\n## Sources")[0] == rendered


async def test_a_report_without_citations_keeps_its_brackets(workspace: Workspace) -> None:
    report = await built(workspace, Section(text="Bins [1] and [2], range [5, 10]."))
    assert "Bins [1] and [2], range [5, 10]." in report.markdown
    assert "## Sources" not in report.markdown


async def test_nothing_hostile_gets_through(workspace: Workspace) -> None:
    report = await built(
        workspace,
        Section(
            heading="H <script>x</script> ![p](http://evil/p) `c",
            text=(
                "<script>alert(1)</script> <img src=x onerror=y> a < b <https://ok.example/> "
                "![t](http://evil.example/?leak=1) ![u](charts/none.png) ![v](<charts/cost%20by%20year.png>) "
                "[click](javascript:alert(1)) [data]( DATA:text/html,x) [ok](https://ok.example) ![r][ref]\n\n"
                "[ref]: javascript:alert(1)\n\n<!-- open\n\n```\nnever closed <b>"
            ),
            charts=["../../etc/passwd", "/etc/passwd.png", "charts/none.png", "http://evil.example/x.png"],
            citations=[cite("S2", "<b>Recycling</b> recovers 95 % of `nickel`"), cite("S9<script>", "<img src=x>")],
        ),
        title="T <img src=x onerror=alert(1)> [a](javascript:b)\n## Injected",
    )
    text = report.markdown
    outside = text.split("```")[0] + text.split("```")[2]
    for bad in (
        "<script",
        "<img",
        "<b>",
        "<!--",
        "javascript:alert",
        "DATA:",
        "![t]",
        "![u]",
        "![r]",
    ):
        assert bad not in outside.replace("\\", ""), bad
    assert "](http://evil" not in outside.replace("\\](", "")
    assert "\n## Injected" not in text
    assert "<https://ok.example/>" in text
    assert "[ok](https://ok.example)" in text
    assert "a < b" in text
    assert "never closed <b>\n```" in text
    assert text.rstrip().endswith("[sources/S2.md](sources/S2.md)")
    assert set(report.missing) >= {
        "../../etc/passwd",
        "/etc/passwd.png",
        "charts/none.png",
        "http://evil.example/x.png",
    }


@pytest.mark.parametrize(
    "text",
    [
        "[a](java&#115;cript:alert(1))",
        "[a](&#x6A;avascript:alert(1))",
        "[a](javascript&colon;alert(1))",
        "[a](javascript\\:alert(1))",
        "[a](java&Tab;script:alert(1))",
        "> [a]: javascript:alert(1)",
        "- [a]: data:text/html,x",
        "[a\\]b]: vbscript:x",
        "[a](\n javascript:x)",
    ],
)
def test_no_disguise_of_a_scheme_survives(text: str) -> None:
    safe, _ = safe_text(text, (), str)
    assert not re.search("javascript|vbscript|data:|&|java", safe, re.IGNORECASE), safe


@pytest.mark.parametrize(
    "text",
    [
        "[ok](https://x.org/a:b?c=d&amp;e)",
        "[m](mailto:a@b.org)",
        "[s](sources/S1.md)",
        "[h](#part-2)",
        "Sales [2024]: a record: 5",
    ],
)
def test_honest_links_are_left_alone(text: str) -> None:
    assert safe_text(text, (), str) == (text, [])


def test_a_quote_shows_no_picture_even_by_name() -> None:
    assert escape_quote("![x] ![y](http://e/p.png) [z][x]") == "!\\[x] !\\[y\\](http://e/p.png) [z\\][x]"


async def test_an_index_that_was_tampered_with_names_no_other_file(workspace: Workspace) -> None:
    index = json.loads(await workspace.read_text("sources/index.json"))
    for stored in ("../../../etc/passwd", "sources/x](javascript:alert(1))[.md", "report.md"):
        index["sources"][0]["stored"] = stored
        await workspace.write_text("sources/index.json", json.dumps(index))
        with pytest.raises(Conflict, match="damaged"):
            await built(workspace, Section(text="x", citations=[cite("S1", "y")]))


@pytest.mark.parametrize("sections", [[], [Section()], [Section(heading="Only a heading", text="  ")]])
async def test_an_empty_report_is_refused(workspace: Workspace, sections: list[Section]) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        await build_report(workspace, "Title", sections)


async def test_tampering_is_noticed(workspace: Workspace) -> None:
    await built(
        workspace, Section(text="x [[1]]", charts=["charts/cost by year.png"], citations=[cite("S1", "Battery cost")])
    )
    stored = await workspace.read_text("sources/S1.md")
    await workspace.write_text("sources/S1.md", stored.replace("40 %", "90 %"))
    assert await verify_report(workspace) == ["Citation 1: sources/S1.md was changed after it was stored."]
    report = await build_report(workspace, "T", [Section(text="x", citations=[cite("S1", "cost fell by 90 %")])])
    assert "was changed after it was stored" in report.removed[0].reason
    await workspace.write_text("sources/S1.md", stored)
    await workspace.delete("charts/cost by year.png")
    entries = json.loads(await workspace.read_text("citations.json"))
    await workspace.write_text(
        "citations.json", json.dumps([entries[0] | {"quote": "Battery cost doubled"}, entries[0] | {"n": 2}])
    )
    assert await verify_report(workspace) == [
        "Citation 1 is not in S1.",
        "Citation 2 is not listed in report.md.",
        "The picture charts/cost%20by%20year.png is not there.",
    ]


@pytest.mark.parametrize("planted", ["[" * 100_000, "5", "null", '[{"n": "x"}]', "\0"])
async def test_planted_citations_are_a_problem_not_a_crash(workspace: Workspace, planted: str) -> None:
    await built(workspace, Section(text="x"))
    await workspace.write_text("citations.json", planted)
    assert "can't be checked" in (await verify_report(workspace))[0]


async def test_pictures_inside_code_are_no_pictures(workspace: Workspace) -> None:
    await built(workspace, Section(text="Write `![a](b.png)` or\n\n```md\n![a](b.png)\n```\n\nlike that."))
    assert await verify_report(workspace) == []


async def test_no_report_is_one_problem(tmp_path: Path) -> None:
    assert len(await verify_report(Workspace(tmp_path))) == 1


@given(st.text(max_size=120))
def test_a_title_is_one_harmless_line(title: str) -> None:
    shown = escape_title(title)
    assert "\n" not in shown
    assert "<" not in shown
    assert shown


@given(st.text(alphabet=st.sampled_from("<>!/ab`~[]()\n :#*-&"), max_size=80))
def test_no_tag_survives_outside_code(text: str) -> None:
    shown, _ = safe_text(text, set(), lambda prose: prose)
    if "`" not in text and "~" not in text:
        assert not any(f"<{letter}" in shown for letter in "ab/!")
