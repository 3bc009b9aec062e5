"""How files are described and what is noted about them."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.sandbox.guest.guestd import metadata, problems
from orchestrion.sandbox.guest.guestd.connect import RpcError
from orchestrion.sandbox.guest.guestd.downloads import _file_name
from orchestrion.sandbox.guest.guestd.entries import Describer, timestamp
from orchestrion.sandbox.guest.guestd.files_http import _NotAcceptable, _wants_gzip


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_time_a_file_can_have_can_be_written(nanoseconds: int) -> None:
    text = timestamp(nanoseconds)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", text)
    seconds = datetime.fromisoformat(text[:-4] + "+00:00").timestamp()
    assert seconds == pytest.approx(nanoseconds / 1e9, abs=1e-3)


def test_times_beyond_the_calendar_are_the_nearest_within() -> None:
    assert timestamp(10**30).startswith("9999-12-31T23:59:59")
    assert timestamp(-(10**30)).startswith("0001-01-01T00:00:00")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: path.touch(), "FILE_TYPE_FILE"),
        (lambda path: path.mkdir(), "FILE_TYPE_DIRECTORY"),
        (os.mkfifo, "FILE_TYPE_UNSPECIFIED"),
        (lambda path: path.symlink_to("nowhere"), "FILE_TYPE_UNSPECIFIED"),
        (lambda path: path.symlink_to("."), "FILE_TYPE_DIRECTORY"),
    ],
)
def test_types(tmp_path: Path, make: object, kind: str) -> None:
    make(tmp_path / "it")  # type: ignore[operator]
    assert Describer().describe(str(tmp_path / "it"))["type"] == kind


def test_an_owner_without_a_name_is_a_number(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(tmp_path, 54321, 54322)
    entry = Describer().describe(str(tmp_path))
    assert (entry["owner"], entry["group"]) == ("54321", "54322")


header_names = st.text(st.characters(codec="ascii", min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)


@given(st.dictionaries(header_names, st.text(max_size=40), max_size=4))
def test_metadata_is_printable_or_refused(given_ones: dict[str, str]) -> None:
    headers = {"x-metadata-" + key: value for key, value in given_ones.items()} | {"other": "\n"}
    printable = all(re.fullmatch(r"[\x20-\x7e]*", value) for value in given_ones.values())
    if printable:
        assert metadata.from_headers(headers) == given_ones
    else:
        with pytest.raises(RpcError, match="printable"):
            metadata.from_headers(headers)


@pytest.mark.parametrize("headers", [{"x-metadata-": "v"}, {"x-metadata-" + "k" * 247: "v"}])
def test_keys_that_no_file_system_keeps(headers: dict[str, str]) -> None:
    with pytest.raises(RpcError, match="1 to 246"):
        metadata.from_headers(headers)


def test_metadata_has_a_bound_together() -> None:
    fits = {f"x-metadata-{number:02}": "v" * (256 - 11) for number in range(16)}
    assert len(metadata.from_headers(fits)) == 16
    with pytest.raises(RpcError, match="4096"):
        metadata.from_headers({**fits, "x-metadata-z": ""})


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_file_name_breaks_a_header(name: str) -> None:
    value = _file_name(name)
    assert value.isascii()
    assert value.isprintable()
    quoted = re.fullmatch(r'filename="([^"\\]*)"|filename\*=UTF-8\'\'([\w.~%-]*)', value)
    assert quoted is not None


@given(st.binary())
def test_every_file_name_can_be_told(name: bytes) -> None:
    assert problems.printable(os.fsdecode(name)) == name.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("accepted", "zipped"),
    [
        ("", False),
        ("gzip", True),
        ("gzip;q=1.0, identity;q=0.5", True),
        ("gzip, deflate, br, zstd", False),
        ("*", False),
        ("identity;q=0, gzip", True),
        ("gzip;q=0", False),
        ("br", False),
        ("*;q=0, gzip", True),
    ],
)
def test_when_gzip_is_chosen(accepted: str, zipped: bool) -> None:
    assert _wants_gzip(accepted) is zipped


@pytest.mark.parametrize("accepted", ["identity;q=0", "*;q=0", "br, identity; q=0"])
def test_when_nothing_is_acceptable(accepted: str) -> None:
    with pytest.raises(_NotAcceptable):
        _wants_gzip(accepted)
