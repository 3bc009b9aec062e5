"""Fetching over real sockets, from a server that misbehaves in every way it can."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from docx import Document

from orchestrion.core.errors import FetchFailed, FetchRefused
from orchestrion.tools import web_fetch
from orchestrion.tools.web_fetch import Page, fetch
from orchestrion.tools.web_safety import FetchPolicy

Handler = Callable[[str, asyncio.StreamWriter], Awaitable[None]]

HTML = b"<html><title>T</title><p>Hello, page.</p></html>"


def answer(body: bytes = HTML, status: str = "200 OK", **headers: str) -> bytes:
    fields = {"Content-Type": "text/html", "Content-Length": str(len(body)), "Connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


class Server:
    """Serves canned answers by path and remembers what it was asked."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes | Handler] = {}
        self.requests: list[str] = []
        self.port = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.requests.append(head)
            page = self.pages.get(head.split()[1], answer(b"gone", "404 Not Found"))
            if isinstance(page, bytes):
                writer.write(page)
                await writer.drain()
            else:
                await page(head, writer)
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()


async def get(server: Server, path: str, *, host: str = "127.0.0.1", **options: object) -> Page:
    """Fetch as a user does who named this very server in the goal, on a machine of their own."""
    policy = FetchPolicy([server.url("/", host)], private_allowed=True)
    return await fetch(server.url(path, host), policy, **options)  # type: ignore[arg-type]


async def test_a_page_is_fetched_with_its_charset(server: Server) -> None:
    server.pages["/a?q=1"] = answer("<p>Grüße</p>".encode("cp1252"), Content_Type="text/html; charset=windows-1252")
    page = await get(server, "/a?q=1#part")
    assert (page.suffix, page.charset) == (".html", "windows-1252")
    assert page.body.decode("cp1252") == "<p>Grüße</p>"
    assert page.url.endswith("/a?q=1")
    assert f"Host: 127.0.0.1:{server.port}" in server.requests[0]


async def test_the_checked_address_is_the_one_connected_to(server: Server) -> None:
    asked: list[str] = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        # A second look-up would be answered otherwise: that is how DNS rebinding works.
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    server.pages["/"] = answer()
    page = await get(server, "/", host="rebind.example", resolver=resolver)
    assert page.body == HTML
    assert asked == ["rebind.example"]
    assert f"Host: rebind.example:{server.port}" in server.requests[0]


async def test_a_dead_address_gives_way_to_the_next(server: Server) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.9", "127.0.0.1"]

    server.pages["/"] = answer()
    assert (await get(server, "/", host="two.example", resolver=resolver)).body == HTML


@pytest.mark.parametrize(
    "answers", [["127.0.0.1"], ["10.1.2.3"], ["93.184.216.34", "127.0.0.1"], ["::1"], ["169.254.169.254"]]
)
async def test_a_public_name_that_leads_inside_is_not_asked(server: Server, answers: list[str]) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        return answers

    with pytest.raises(FetchRefused):
        await fetch("http://inside.example/", FetchPolicy(), resolver=resolver)
    assert server.requests == []


async def test_localhost_is_refused_unless_the_goal_names_it(server: Server) -> None:
    server.pages["/"] = answer()
    for policy in (FetchPolicy([server.url("/")]), FetchPolicy(private_allowed=True), FetchPolicy()):
        with pytest.raises(FetchRefused):
            await fetch(server.url("/"), policy)
    assert server.requests == []


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("http://169.254.169.254/latest/meta-data/", "no fetch may touch"),
        ("http://127.0.0.1:1/", "port"),
        ("http://127.0.0.1/", "this machine"),
        ("http://0x7f000001/", "unusual spelling"),
        ("http://[::ffff:127.0.0.1]/", "no address"),
        ("http://10.0.0.1/", "private network"),
        ("file:///etc/passwd", "not a web address"),
        ("//user:pw@example.com/", "user name or password"),
        ("javascript:alert(1)", "not a web address"),
    ],
)
async def test_every_redirect_is_checked(server: Server, location: str, error: str) -> None:
    server.pages["/"] = answer(b"", "302 Found", Location=location)
    with pytest.raises(FetchRefused, match=error):
        await get(server, "/")
    assert len(server.requests) == 1


async def test_redirects_are_followed_but_not_for_ever(server: Server) -> None:
    server.pages["/to"] = answer(b"", "301 Moved Permanently", Location="page?x=1#y")
    server.pages["/page?x=1"] = answer()
    assert (await get(server, "/to")).url == server.url("/page?x=1")
    server.pages["/a"] = answer(b"", "302 Found", Location="/b")
    server.pages["/b"] = answer(b"", "307 Temporary Redirect", Location="/a#other")
    with pytest.raises(FetchFailed, match="in a circle"):
        await get(server, "/a")
    for number in range(10):
        server.pages[f"/{number}"] = answer(b"", "302 Found", Location=f"/{number + 1}")
    server.requests.clear()
    with pytest.raises(FetchFailed, match="more than 5 times"):
        await get(server, "/0")
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    "status", ["404 Not Found", "401 Unauthorized", "500 Internal Server Error", "304 Not Modified"]
)
async def test_an_error_status_is_told(server: Server, status: str) -> None:
    server.pages["/"] = answer(b"", status)
    with pytest.raises(FetchFailed, match=status):
        await get(server, "/")


async def test_a_slow_drip_ends_at_the_deadline(server: Server) -> None:
    async def drip(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"")[:-4].replace(b"Content-Length: 0", b"X: y") + b"\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def silence(_: str, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def never_done_head(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-A: b\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    for handler in (drip, silence, never_done_head):
        server.pages["/"] = handler
        with pytest.raises(FetchFailed, match=r"longer than 0\.6 seconds"):
            await get(server, "/", seconds=0.6)


async def test_a_name_server_that_hangs_ends_at_the_deadline(server: Server) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return []

    with pytest.raises(FetchFailed, match="longer than"):
        await get(server, "/", host="slow.example", resolver=resolver, seconds=0.3)


async def test_a_huge_body_is_cut_off(server: Server) -> None:
    sent = 0

    async def flood(_: str, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    server.pages["/flood"] = flood
    server.pages["/declared"] = answer(b"x", Content_Length=str(10**12))
    for path in ("/flood", "/declared"):
        with pytest.raises(FetchFailed, match="larger than 1 MiB"):
            await get(server, path, max_bytes=2**20)
    assert sent < 60 * 2**20


async def test_gzip_is_unpacked_within_bounds(server: Server) -> None:
    server.pages["/ok"] = answer(gzip.compress(HTML), Content_Encoding="gzip")
    server.pages["/deflate"] = answer(zlib.compress(HTML), Content_Encoding="deflate")
    assert (await get(server, "/ok")).body == (await get(server, "/deflate")).body == HTML
    bomb = gzip.compress(b"\0" * 60_000_000)
    server.pages["/bomb"] = answer(bomb, Content_Encoding="gzip")
    with pytest.raises(FetchFailed, match="larger than 5 MiB"):
        await get(server, "/bomb", max_bytes=5 * 2**20)
    server.pages["/twice"] = answer(gzip.compress(bomb), Content_Encoding="gzip, gzip")
    server.pages["/brotli"] = answer(b"xx", Content_Encoding="br")
    for path in ("/twice", "/brotli"):
        with pytest.raises(FetchFailed, match="can't be unpacked"):
            await get(server, path)
    server.pages["/lie"] = answer(HTML, Content_Encoding="gzip")
    server.pages["/short"] = answer(gzip.compress(HTML * 50)[:-20], Content_Encoding="gzip")
    with pytest.raises(FetchFailed, match="damaged"):
        await get(server, "/lie")
    with pytest.raises(FetchFailed, match="before its end"):
        await get(server, "/short")


@pytest.mark.parametrize(
    ("content_type", "suffix"),
    [
        ("text/html; charset=utf-8", ".html"),
        ("TEXT/PLAIN", ".txt"),
        ("application/pdf", ".pdf"),
        ("application/json", ".json"),
        ("application/rss+xml", ".txt"),
        ("", ""),
        ("application/octet-stream", ""),
    ],
)
async def test_kinds_that_can_be_read(server: Server, content_type: str, suffix: str) -> None:
    server.pages["/"] = answer(Content_Type=content_type)
    assert (await get(server, "/")).suffix == suffix


@pytest.mark.parametrize("content_type", ["image/png", "video/mp4", "application/zip", "application/x-msdownload"])
async def test_kinds_that_can_t_be_read_are_refused(server: Server, content_type: str) -> None:
    server.pages["/"] = answer(Content_Type=content_type)
    with pytest.raises(FetchRefused, match=content_type):
        await get(server, "/")


async def test_broken_answers_get_one_sentence(server: Server) -> None:
    server.pages["/garbage"] = b"\x00\x01\x02 not http at all\r\n\r\n"
    server.pages["/early"] = answer(HTML, Content_Length="5000")
    server.pages["/empty"] = answer(b"  ")
    server.pages["/nothing"] = b""
    for path in ("/garbage", "/early", "/empty", "/nothing"):
        with pytest.raises(FetchFailed) as failure:
            await get(server, path)
        assert failure.value.detail.endswith(".")
        assert "\n" not in failure.value.detail


async def test_a_closed_port_and_an_unknown_host_are_told_apart(server: Server) -> None:
    policy = FetchPolicy(["http://127.0.0.1:9/"], private_allowed=True)
    with pytest.raises(FetchFailed, match="can't be reached"):
        await fetch("http://127.0.0.1:9/", policy)
    with pytest.raises(FetchFailed, match="There is no host called"):
        await fetch("http://no-such-host.invalid/", FetchPolicy())


async def test_no_proxy_of_the_environment_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.pages["/"] = answer()
    assert (await get(server, "/")).body == HTML


async def test_a_word_document_comes_through_byte_for_byte(server: Server, tmp_path: Path) -> None:
    document = Document()
    document.add_paragraph("From the web.")
    document.save(str(tmp_path / "a.docx"))
    body = (tmp_path / "a.docx").read_bytes()
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    server.pages["/a.docx"] = answer(body, Content_Type=kind)
    page = await get(server, "/a.docx")
    assert (page.body, page.suffix) == (body, ".docx")


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """Return a server's context with a self-signed certificate for `name`, kept in `folder/cert.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "cert.pem").write_bytes(made.public_bytes(pem) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem")
    return context


async def test_tls_is_checked_against_the_name_not_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Server()
    made.pages["/"] = answer()
    context = certificate(tmp_path, "tls.example")
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    made.port = listening.sockets[0].getsockname()[1]

    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async def go(host: str) -> Page:
        url = f"https://{host}:{made.port}/"
        return await fetch(url, FetchPolicy([url], private_allowed=True), resolver=resolver)

    with pytest.raises(FetchFailed, match=r"tls\.example has no valid certificate"):
        await go("tls.example")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    monkeypatch.setattr(web_fetch, "_tls", lambda: trusting)
    assert (await go("tls.example")).body == HTML
    with pytest.raises(FetchFailed, match=r"other\.example has no valid certificate"):
        await go("other.example")
    listening.close()
