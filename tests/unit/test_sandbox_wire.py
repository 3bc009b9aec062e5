"""What a guest sends, taken apart."""

from __future__ import annotations

import json
import struct

import pytest

from orchestrion.core.errors import Conflict, InvalidInput, NotFound, PortClosed, SandboxError, SandboxGone
from orchestrion.sandbox.client.capture import Capture
from orchestrion.sandbox.client.endings import end_of
from orchestrion.sandbox.client.failures import ended, refused
from orchestrion.sandbox.client.wire import (
    MESSAGE,
    Frames,
    Lines,
    bytes_of,
    message_of,
    real_of,
    said,
    text_of,
    time_of,
    whole_of,
)


def framed(*bodies: bytes) -> bytes:
    return b"".join(struct.pack(">BI", 0, len(body)) + body for body in bodies)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_frames_are_found_however_they_are_cut(step: int) -> None:
    data, frames, found = framed(b"{}", b"", b"x" * 50), Frames(), []
    for at in range(0, len(data), step):
        found += frames.feed(data[at : at + step])
    assert found == [(0, b"{}"), (0, b""), (0, b"x" * 50)]


def test_an_oversized_frame_is_refused_before_it_comes() -> None:
    with pytest.raises(SandboxError):
        Frames().feed(struct.pack(">BI", 0, MESSAGE + 1))


@pytest.mark.parametrize("step", [1, 3, 100])
def test_lines_are_found_however_they_are_cut(step: int) -> None:
    data, lines, found = b"one\n\ntwo\nthree", Lines(), []
    for at in range(0, len(data), step):
        found += lines.feed(data[at : at + step])
    assert found == [b"one", b"", b"two"]
    assert lines.feed(b"\n") == [b"three"]


def test_an_endless_line_is_refused() -> None:
    lines = Lines()
    piece = b"x" * (16 * 2**20)
    for _ in range(4):
        lines.feed(piece)
    with pytest.raises(SandboxError):
        lines.feed(b"x")


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"null", b"{", b"\xff", b"[" * 100_000, b"1" * 10_000, b'"x'])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(SandboxError):
        message_of(data)


def test_lone_surrogates_become_question_marks() -> None:
    assert text_of(message_of(json.dumps({"text": "a\ud800b"}).encode()), "text") == "a?b"


@pytest.mark.parametrize("value", [None, "x", 1.5, True, [], 2**63, "9" * 30, "--1", "1-"])
def test_numbers_are_whole_and_fit(value: object) -> None:
    with pytest.raises(SandboxError):
        whole_of({"size": value}, "size")


def test_numbers_also_come_as_text() -> None:
    assert whole_of({"size": "123"}, "size") == 123
    assert whole_of({}, "size", 0) == 0


@pytest.mark.parametrize("value", ["x", None, True, float("nan"), float("inf"), 1e300])
def test_measures_are_finite(value: object) -> None:
    with pytest.raises(SandboxError):
        real_of({"cpu": value}, "cpu")


@pytest.mark.parametrize("value", [None, 1, "a", "ä", [], {}])
def test_bytes_are_base64(value: object) -> None:
    with pytest.raises(SandboxError):
        bytes_of({"stdout": value}, "stdout")


@pytest.mark.parametrize("value", ["", "yesterday", "2026-11-21T10:00:00", 5, None])
def test_moments_have_a_zone(value: object) -> None:
    with pytest.raises(SandboxError):
        time_of({"at": value}, "at")


def test_nanoseconds_are_taken() -> None:
    assert time_of({"at": "2026-11-21T10:00:00.123456789Z"}, "at").microsecond == 123456


def test_a_guests_words_stay_on_one_short_line() -> None:
    assert said("a\n b\t\udc80. ") == "a b ?"
    assert len(said("x" * 10_000)) == 500


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"exited": True, "status": "exit status 0"}, 0),
        ({"exited": True, "exitCode": 3}, 3),
        ({"exitCode": -1, "status": "signal: killed"}, 137),
        ({"exitCode": -1, "status": "signal: segmentation fault (core dumped)"}, 139),
        ({"status": "signal: terminated"}, 143),
        ({"exitCode": -1, "status": "signal: 34"}, 162),
    ],
)
def test_ends_become_the_shells_exit_codes(event: dict[str, object], code: int) -> None:
    assert end_of(event).exit_code == code


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"exitCode": 256, "exited": True},
        {"exitCode": -2},
        {"exitCode": "x"},
        {"exitCode": 1.5},
        {"status": 7},
        {"exitCode": -1, "status": "signal: 999"},
    ],
)
def test_nonsensical_ends_are_refused(event: dict[str, object]) -> None:
    with pytest.raises(SandboxError):
        end_of(event)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b'{"code":"not_found","message":"no"}', NotFound),
        (400, b'{"code":"invalid_argument","message":"no"}', InvalidInput),
        (409, b'{"code":"already_exists","message":"there"}', Conflict),
        (404, b"plain text", NotFound),
        (500, b"", SandboxError),
        (507, b'{"code":507,"message":"no space"}', SandboxError),
        (502, b'{"message":"The sandbox was not found"}', SandboxGone),
        (502, b'{"message":"The sandbox is running but port is not open"}', PortClosed),
        (500, b"[1]", SandboxError),
    ],
)
def test_refusals_have_their_kinds(status: int, body: bytes, kind: type[Exception]) -> None:
    assert type(refused(status, body)) is kind


def test_a_streams_bad_end_has_its_kind() -> None:
    assert type(ended("unavailable", "gone")) is SandboxGone
    assert type(ended("not_found", "pid")) is NotFound
    assert str(ended("internal", "broke\nbadly.")) == "The sandbox refused: broke badly."


def test_a_capture_keeps_both_ends() -> None:
    capture = Capture(10)
    for letter in "abcdefghijklmnop":
        capture.add(letter)
    assert capture.text() == "abcde\n[… 6 characters left out …]\nlmnop"
