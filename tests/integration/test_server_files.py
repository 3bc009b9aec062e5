"""Files up and down: hostile names, limits, ranges, types, archives."""

from __future__ import annotations

import asyncio
import io
import os
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_support import Live, live, raw, settings_for

from orchestrion.server.downloads import Span, Unsatisfiable, parse_range

MIB = 2**20


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Live]:
    async with live(settings_for(tmp_path, upload_limit_mb=2)) as running:
        yield running


def form(*parts: tuple[bytes, bytes], end: bool = True) -> bytes:
    """A multipart body with file names as raw as a client may send them."""
    body = b"".join(
        b'--XX\r\nContent-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\n' + data + b"\r\n"
        for name, data in parts
    )
    return body + b"--XX--\r\n" if end else body


async def post(server: Live, session: str, body: bytes):
    headers = {"Content-Type": "multipart/form-data; boundary=XX"}
    return await server.client.post(f"/api/sessions/{session}/files", content=body, headers=headers)


async def upload(server: Live, session: str, name: str, data: bytes) -> str:
    response = await post(server, session, form((name.encode(), data)))
    assert response.status_code == 201, response.text
    return response.json()["files"][0]["path"]


def kept(server: Live, session: str) -> set[str]:
    root = server.runtime.workspace(session).root
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("data.csv", "uploads/data.csv"),
        ("../../x", "uploads/x"),
        ("/etc/passwd", "uploads/passwd"),
        ("..\\..\\boot.ini", "uploads/boot.ini"),
        ("Übersicht Größe.csv", "uploads/Übersicht Größe.csv"),
        ("U\u0308.csv", "uploads/Ü.csv"),
        ("数据 📊.xlsx", "uploads/数据 📊.xlsx"),
        ("a;b=c%2F.txt", "uploads/a;b=c%2F.txt"),
    ],
)
async def test_any_usable_name_is_stored_safely(server: Live, name: str, stored: str) -> None:
    session = await server.session()
    assert await upload(server, session, name, b"content") == stored
    assert kept(server, session) == {stored}
    listed = (await server.client.get(f"/api/sessions/{session}/files")).json()["files"]
    assert [(file["path"], file["size"]) for file in listed] == [(stored, 7)]


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b".",
        b"..",
        b"../..",
        b"a/",
        b"\x01bell.csv",
        b"tab\there",
        b"x" * 300,
        "é".encode() * 150,
        b"nul\x00.csv",
    ],
)
async def test_an_unusable_name_is_refused_and_nothing_is_kept(server: Live, name: bytes) -> None:
    session = await server.session()
    response = await post(server, session, form((b"good.csv", b"1"), (name, b"content")))
    assert response.status_code == 422, response.text
    assert response.json()["code"] == "invalid_input"
    assert kept(server, session) == set()


async def test_the_same_name_twice_overwrites_nothing(server: Live) -> None:
    session = await server.session()
    response = await post(server, session, form((b"a.csv", b"1"), (b"a.csv", b"2"), (b"b.csv", b"")))
    assert [file["path"] for file in response.json()["files"]] == [
        "uploads/a.csv",
        "uploads/a-2.csv",
        "uploads/b.csv",
    ]
    second = await server.client.get(f"/api/sessions/{session}/files/uploads/a-2.csv")
    assert second.content == b"2"
    empty = await server.client.get(f"/api/sessions/{session}/files/uploads/b.csv")
    assert (empty.status_code, empty.content) == (200, b"")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--XX--\r\n",
        b"nonsense",
        form((b"a.csv", b"1" * 100), end=False),
        b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a',
        b'--XX\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\n1\r\n--XX--\r\n',
        b'--XX\r\nContent-Disposition: form-data; name="file"\r\n\r\n1\r\n--XX--\r\n',
        b"--XX\r\n\r\n1\r\n--XX--\r\n",
    ],
)
async def test_a_malformed_upload_is_refused_and_nothing_is_kept(server: Live, body: bytes) -> None:
    session = await server.session()
    response = await post(server, session, body)
    assert response.status_code == 422, response.text
    assert "file" in response.json()["remedy"] or "again" in response.json()["remedy"]
    assert kept(server, session) == set()


async def test_an_upload_that_is_no_form_is_refused(server: Live) -> None:
    session = await server.session()
    url = f"/api/sessions/{session}/files"
    assert (await server.client.post(url, json={"file": "x"})).status_code == 422
    headers = {"Content-Type": "multipart/form-data"}
    assert (await server.client.post(url, content=b"x", headers=headers)).status_code == 422
    assert (await server.client.post("/api/sessions/ses_x/files", files={"file": b"x"})).status_code == 404


async def test_a_large_upload_is_refused_by_its_announced_length(server: Live) -> None:
    session = await server.session()
    head = (
        f"POST /api/sessions/{session}/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000000\r\n"
        "Content-Type: multipart/form-data; boundary=XX\r\nExpect: 100-continue\r\n\r\n"
    )
    answer = await raw(server.port, head.encode())
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"100 Continue" not in answer
    assert b'"code":"too_large"' in answer


async def test_a_large_upload_is_refused_while_it_comes_in(server: Live) -> None:
    session = await server.session()
    head = (
        f"POST /api/sessions/{session}/files HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: multipart/form-data; boundary=XX\r\n\r\n"
    )
    begin = form((b"big.csv", b""), end=False)[:-2] + b"x" * 3 * MIB
    answer = await raw(server.port, head.encode() + f"{len(begin):x}\r\n".encode() + begin + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"code":"too_large"' in answer
    assert kept(server, session) == set()


@pytest.mark.parametrize("announced", [True, False])
async def test_a_client_that_looks_only_after_sending_all_sees_the_refusal(server: Live, announced: bool) -> None:
    session = await server.session()
    begin = form((b"big.csv", b""), end=False)[:-2]

    async def body() -> AsyncIterator[bytes]:
        yield begin
        for _ in range(100):
            yield b"x" * MIB

    headers = {"Content-Type": "multipart/form-data; boundary=XX"}
    if announced:
        headers["Content-Length"] = str(len(begin) + 100 * MIB)
    response = await server.client.post(f"/api/sessions/{session}/files", content=body(), headers=headers)
    assert response.status_code == 413
    assert response.json()["code"] == "too_large"
    assert kept(server, session) == set()


async def test_an_upload_that_is_cut_off_leaves_nothing(server: Live) -> None:
    session = await server.session()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = (
        f"POST /api/sessions/{session}/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
        "Content-Type: multipart/form-data; boundary=XX\r\n\r\n"
    )
    writer.write(head.encode() + form((b"a.csv", b"1"), (b"b.csv", b"2" * 1000), end=False))
    await writer.drain()
    folder = server.runtime.workspace(session).root / "uploads"
    async with asyncio.timeout(10):
        while not (folder / "a.csv").exists():
            await asyncio.sleep(0.01)
        writer.close()
        while any(folder.iterdir()):
            await asyncio.sleep(0.01)


async def test_an_upload_is_written_as_it_comes_in(server: Live) -> None:
    session = await server.session()
    arrived = asyncio.Event()
    folder = server.runtime.workspace(session).root / "uploads"

    async def body() -> AsyncIterator[bytes]:
        yield form((b"a.bin", b""), end=False)[:-2]
        yield b"x" * (MIB + 10)
        async with asyncio.timeout(10):
            while not folder.exists() or sum(path.stat().st_size for path in folder.iterdir()) < MIB // 2:
                await asyncio.sleep(0.01)
        arrived.set()
        yield b"\r\n--XX--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=XX"}
    response = await server.client.post(f"/api/sessions/{session}/files", content=body(), headers=headers)
    assert arrived.is_set()
    assert response.json()["files"][0]["size"] == MIB + 10


DATA = bytes(range(256)) * 4


@pytest.mark.parametrize(
    ("wanted", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=1000-", 1000, 1024),
        ("bytes=-5", 1019, 1024),
        ("bytes=-5000", 0, 1024),
        ("bytes=1020-9999", 1020, 1024),
    ],
)
async def test_a_range_is_served(server: Live, wanted: str, begin: int, end: int) -> None:
    session = await server.session()
    path = await upload(server, session, "data.bin", DATA)
    url = f"/api/sessions/{session}/files/{path}"
    response = await server.client.get(url, headers={"Range": wanted})
    assert response.status_code == 206
    assert response.content == DATA[begin:end]
    assert response.headers["content-range"] == f"bytes {begin}-{end - 1}/1024"
    assert response.headers["content-length"] == str(end - begin)
    head = await server.client.head(url, headers={"Range": wanted})
    assert (head.status_code, head.headers["content-length"]) == (206, str(end - begin))


async def test_ranges_that_are_not_served(server: Live) -> None:
    session = await server.session()
    path = await upload(server, session, "data.bin", DATA)
    url = f"/api/sessions/{session}/files/{path}"
    for outside in ("bytes=1024-", "bytes=5000-6000", "bytes=-0"):
        response = await server.client.get(url, headers={"Range": outside})
        assert response.status_code == 416
        assert response.headers["content-range"] == "bytes */1024"
        assert response.headers["content-type"] == "application/problem+json"
    for ignored in ("bytes=5-1", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes=-", ""):
        response = await server.client.get(url, headers={"Range": ignored})
        assert (response.status_code, response.content) == (200, DATA)


async def test_validators(server: Live) -> None:
    session = await server.session()
    path = await upload(server, session, "data.bin", DATA)
    url = f"/api/sessions/{session}/files/{path}"
    etag = (await server.client.head(url)).headers["etag"]
    assert (await server.client.get(url, headers={"If-None-Match": etag})).status_code == 304
    part = await server.client.get(url, headers={"Range": "bytes=0-1", "If-Range": etag})
    assert part.status_code == 206
    whole = await server.client.get(url, headers={"Range": "bytes=0-1", "If-Range": '"old"'})
    assert whole.status_code == 200


@given(header=st.text(max_size=40), size=st.integers(0, 1000))
def test_no_range_header_breaks_the_parser(header: str, size: int) -> None:
    try:
        span = parse_range(header, size)
    except Unsatisfiable:
        return
    assert span is None or 0 <= span.start < span.end <= size


@given(size=st.integers(1, 500), begin=st.integers(0, 600), length=st.integers(1, 600))
def test_a_range_names_what_a_slice_would(size: int, begin: int, length: int) -> None:
    whole = bytes(number % 256 for number in range(size))
    if begin >= size:
        with pytest.raises(Unsatisfiable):
            parse_range(f"bytes={begin}-{begin + length - 1}", size)
        return
    span = parse_range(f"bytes={begin}-{begin + length - 1}", size)
    assert isinstance(span, Span)
    assert whole[span.start : span.end] == whole[begin : begin + length]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("page.html", "text/html; charset=utf-8"),
        ("drawing.svg", "image/svg+xml; charset=utf-8"),
        ("data.xml", "xml; charset=utf-8"),
        ("report.md", "text/markdown; charset=utf-8"),
        ("chart.png", "image/png"),
    ],
)
async def test_what_a_sandbox_wrote_can_not_act_in_our_name(server: Live, name: str, kind: str) -> None:
    session = await server.session()
    path = await upload(server, session, name, b"<script>alert(1)</script>")
    url = f"/api/sessions/{session}/files/{path}"
    response = await server.client.get(url)
    assert response.headers["content-type"].endswith(kind)
    assert response.headers["x-content-type-options"] == "nosniff"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("sandbox;")
    assert "allow-scripts" not in policy
    assert "allow-same-origin" not in policy
    assert response.headers["content-disposition"].startswith("inline")
    saved = await server.client.get(url, params={"download": "1"})
    assert saved.headers["content-disposition"].startswith(f'attachment; filename="{name}"')


async def test_a_name_of_any_kind_survives_the_way_back(server: Live) -> None:
    session = await server.session()
    path = await upload(server, session, "Größe 📊; a%.csv", b"1")
    response = await server.client.get(f"/api/sessions/{session}/files/{path.replace('%', '%25')}")
    assert response.content == b"1"
    assert "filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%F0%9F%93%8A%3B%20a%25.csv" in response.headers["content-disposition"]


async def test_no_path_leads_out_of_the_workspace(server: Live, tmp_path: Path) -> None:
    session = await server.session()
    await upload(server, session, "a.csv", b"1")
    root = server.runtime.workspace(session).root
    (root / "link").symlink_to("/etc/passwd")
    (root / "folder").symlink_to("/etc")
    os.mkfifo(root / "pipe")
    url = f"/api/sessions/{session}/files"
    for path in (
        "link",
        "folder/passwd",
        "%2e%2e/%2e%2e/orchestrion.db",
        "..%2f..%2forchestrion.db",
        "pipe",
        "%00",
        "%2fetc/passwd",
    ):
        response = await server.client.get(f"{url}/{path}")
        assert response.status_code in {404, 422}, path
        assert response.headers["content-type"] == "application/problem+json"
        assert (await server.client.delete(f"{url}/uploads%2f..%2f..%2f{path}")).status_code in {404, 422}
    assert [file["path"] for file in (await server.client.get(url)).json()["files"]] == ["uploads/a.csv"]


async def test_a_file_can_be_deleted(server: Live) -> None:
    session = await server.session()
    path = await upload(server, session, "a.csv", b"1")
    url = f"/api/sessions/{session}/files/{path}"
    assert (await server.client.delete(url)).status_code == 204
    assert (await server.client.delete(url)).status_code == 404
    assert (await server.client.get(url)).status_code == 404


async def test_the_archive_has_every_file(server: Live) -> None:
    session = await server.session()
    contents = {"uploads/Größe.csv": os.urandom(MIB), "uploads/empty.txt": b"", "uploads/a.png": b"x" * 5000}
    for path, data in contents.items():
        await upload(server, session, path, data)
    (server.runtime.workspace(session).root / "link").symlink_to("/etc/passwd")
    response = await server.client.get(f"/api/sessions/{session}/archive")
    assert response.headers["content-type"] == "application/zip"
    assert "content-length" not in response.headers
    assert f"{session}.zip" in response.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == contents


async def test_the_archive_of_an_empty_session_is_an_empty_archive(server: Live) -> None:
    response = await server.client.get(f"/api/sessions/{await server.session()}/archive")
    assert zipfile.ZipFile(io.BytesIO(response.content)).namelist() == []
