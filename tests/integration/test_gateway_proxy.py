"""The gateway's proxy over real sockets: what gets out, what does not, and what is cut."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from gateway_support import ID, Journal, Names, certificate, echo, here, server, serving

from orchestrion.core.errors import NotFound
from orchestrion.sandbox.gateway import GatewayLimits, Grant
from orchestrion.sandbox.gateway.egress import EgressReport, Kind
from orchestrion.sandbox.protocols import Network


async def hold(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo whatever comes, until it ends."""
    writer.write(b"ready")
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def sentence(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"])


async def test_an_allowed_host_is_asked_and_an_unknown_one_is_not_even_looked_up(tmp_path: Path) -> None:
    names = Names(good_example=["127.0.0.1"])
    async with server(echo) as port:
        network, operator = Network(allow=(f"good.example:{port}",)), (f"127.0.0.1:{port}",)
        network = Network(allow=(*network.allow, *operator))
        async with serving(tmp_path, network, operator=operator, names=names) as served:
            answer = await served.get(f"http://good.example:{port}/a?b=c")
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"GET /a?b=c HTTP/1.1\r\n" in answer
            assert f"host: good.example:{port}".encode() in answer.lower()
            assert b"X-Own: 1" in answer
            assert b"keep-alive" not in answer.lower()
        async with serving(tmp_path, Network(allow=("good.example",)), names=names) as served:
            names.asked.clear()
            refused = await served.get("http://evil.example/")
            assert refused.startswith(b"HTTP/1.1 403")
            assert "may not reach evil.example" in sentence(refused)
            assert names.asked == []
            denied = served.journal.egress("denied")
            assert [(event.host, event.port, event.sandbox_id) for event in denied] == [("evil.example", 80, ID)]


async def test_a_request_is_streamed_without_what_is_between_neighbours(tmp_path: Path) -> None:
    async with server(echo) as port:
        network, operator = here("good.example", port=port)
        async with serving(tmp_path, network, operator=operator, names=Names(good_example=["127.0.0.1"])) as served:
            answer = await served.ask(
                f"POST http://good.example:{port}/ HTTP/1.1\r\nHost: other.example\r\nContent-Length: 5\r\n"
                "Proxy-Authorization: Basic eDp5\r\nProxy-Connection: keep-alive\r\nX-Hop: 1\r\n"
                "Connection: close, X-Hop\r\nX-Kept: 1\r\n\r\nhello"
            )
            echoed = answer.partition(b"\r\n\r\n")[2].lower()
            assert echoed.endswith(b"hello")
            assert b"x-kept: 1" in echoed
            for gone in (b"proxy-", b"x-hop", b"other.example"):
                assert gone not in echoed
            sums = served.journal.egress("allowed")
            assert (sums[0].host, sums[0].rule) == ("good.example", f"good.example:{port}")


async def test_one_connection_asks_again_and_again_each_checked_anew(tmp_path: Path) -> None:
    async with server(echo) as port:
        network, operator = here("good.example", port=port)
        async with serving(tmp_path, network, operator=operator, names=Names(good_example=["127.0.0.1"])) as served:
            reader, writer = await served.connect()
            good = f"good.example:{port}"
            for host, status in ((good, b"200"), (good, b"200"), ("evil.example", b"403")):
                writer.write(f"GET http://{host}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.split()[1] == status
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.split()[1]))
            writer.close()


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "::ffff:127.0.0.1", "100.64.0.1"]
)
async def test_an_allowed_name_that_leads_inside_is_refused(tmp_path: Path, address: str) -> None:
    names = Names(good_example=[address])
    async with serving(tmp_path, Network(allow=("good.example", "*")), names=names) as served:
        assert (await served.get("http://good.example/")).startswith(b"HTTP/1.1 403")
        assert (await served.tunnel("good.example:443"))[0].startswith(b"HTTP/1.1 403")
        literal = f"[{address}]" if ":" in address else address
        assert (await served.get(f"http://{literal}/")).startswith(b"HTTP/1.1 403")
        assert (await served.tunnel(f"{literal}:443"))[0].startswith(b"HTTP/1.1 403")
        assert served.journal.egress("allowed") == []


async def test_a_redirect_inside_is_passed_back_and_its_target_refused(tmp_path: Path) -> None:
    async def redirect(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/\r\nContent-Length: 0\r\n\r\n")

    async with server(redirect) as port:
        network, operator = here("good.example", port=port)
        async with serving(tmp_path, network, operator=operator, names=Names(good_example=["127.0.0.1"])) as served:
            answer = await served.get(f"http://good.example:{port}/")
            assert b"302 Found" in answer
            assert b"http://169.254.169.254/latest/" in answer
            assert (await served.get("http://169.254.169.254/latest/")).startswith(b"HTTP/1.1 403")


async def test_the_address_that_was_checked_is_the_one_connected_to(tmp_path: Path) -> None:
    class Rebinding(Names):
        async def __call__(self, host: str, port: int) -> list[str]:
            self.asked.append(host)
            return ["127.0.0.1"] if len(self.asked) == 1 else ["169.254.169.254"]

    names = Rebinding()
    async with server(echo) as port:
        network, operator = here("rebind.example", port=port)
        async with serving(tmp_path, network, operator=operator, names=names) as served:
            assert (await served.get(f"http://rebind.example:{port}/")).startswith(b"HTTP/1.1 200")
            assert names.asked == ["rebind.example"]
            assert (await served.get(f"http://rebind.example:{port}/")).startswith(b"HTTP/1.1 403")


async def test_tls_stays_end_to_end_and_its_name_must_be_the_dialled_one(tmp_path: Path) -> None:
    context, chain = certificate(tmp_path, "good.example", "other.example")
    client = ssl.create_default_context(cafile=str(chain))
    async with server(echo, context) as port:
        network, operator = here("good.example", "other.example", port=port)
        names = Names(good_example=["127.0.0.1"], other_example=["127.0.0.1"])
        async with serving(tmp_path, network, operator=operator, names=names) as served:
            head, reader, writer = await served.tunnel(f"good.example:{port}")
            assert head.startswith(b"HTTP/1.1 200")
            await writer.start_tls(client, server_hostname="good.example")
            writer.write(b"GET /secret HTTP/1.1\r\nHost: good.example\r\n\r\n")
            assert b"/secret" in await reader.read(65536)
            writer.close()

            head, reader, writer = await served.tunnel(f"good.example:{port}")
            with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
                await writer.start_tls(client, server_hostname="other.example")
            writer.close()
            denied = await served.journal.until("denied")
            assert "names another host, other.example" in denied[0].reason

            nameless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            nameless.check_hostname, nameless.verify_mode = False, ssl.CERT_NONE
            head, reader, writer = await served.tunnel(f"good.example:{port}")
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await writer.start_tls(nameless, server_hostname=None)
            writer.close()


async def test_a_tunnel_to_an_allowed_port_carries_anything_both_ways(tmp_path: Path) -> None:
    async with server(hold) as port:
        network, operator = here("good.example", port=port)
        async with serving(tmp_path, network, operator=operator, names=Names(good_example=["127.0.0.1"])) as served:
            _, reader, writer = await served.tunnel(f"good.example:{port}")
            payload = bytes(range(256)) * 4096
            writer.write(b"go\r\n\r\n")
            assert await reader.readexactly(5) == b"ready"
            writer.write(payload)
            writer.write_eof()
            assert await reader.read(-1) == payload
            writer.close()
            await served.gateway.revoke(ID, served.grant)
            allowed = served.journal.egress("allowed")
            assert sum(event.requests for event in allowed) == 1
            assert sum(event.bytes_in for event in allowed) == len(payload) + 5
            assert sum(event.bytes_out for event in allowed) == len(payload) + 6


async def test_a_revoked_grant_cuts_a_running_tunnel_and_what_comes_after(tmp_path: Path) -> None:
    async with server(hold) as port:
        network, operator = here("good.example", port=port)
        async with serving(tmp_path, network, operator=operator, names=Names(good_example=["127.0.0.1"])) as served:
            _, reader, writer = await served.tunnel(f"good.example:{port}")
            writer.write(b"go\r\n\r\n")
            assert await reader.readexactly(5) == b"ready"
            await served.gateway.revoke(ID, served.grant)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(1)
            writer.close()
            refused = await served.get(f"http://good.example:{port}/")
            assert refused.startswith(b"HTTP/1.1 403")
            assert "No run uses this sandbox" in sentence(refused)
            reported = len(served.journal.events)
            assert sum(event.bytes_in for event in served.journal.egress("allowed")) == 5
            served.gateway.grant(ID, Grant(None))
            assert (await served.tunnel(f"good.example:{port}"))[0].startswith(b"HTTP/1.1 200")
            assert len(served.journal.events) == reported


async def test_a_tunnel_goes_on_under_a_grant_that_is_left_and_ends_with_the_rule(tmp_path: Path) -> None:
    async with server(hold) as port:
        network, operator = here("good.example", port=port)
        async with serving(tmp_path, network, operator=operator, names=Names(good_example=["127.0.0.1"])) as served:
            other = Journal()
            served.gateway.grant(ID, Grant("run_2", other.emit))
            _, reader, writer = await served.tunnel(f"good.example:{port}")
            writer.write(b"go\r\n\r\n")
            assert await reader.readexactly(5) == b"ready"
            assert [event.host for event in other.egress("allowed")] == ["good.example"]
            await served.gateway.set_network(ID, network)
            writer.write(b"still")
            assert await reader.readexactly(5) == b"still"
            await served.gateway.set_network(ID, Network(allow=("good.example",)))
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(1)
            writer.close()
            with pytest.raises(NotFound):
                await served.gateway.set_network("nobody", network)


async def test_only_tls_goes_through_a_tunnel_to_the_webs_own_ports(tmp_path: Path, monkeypatch: Any) -> None:
    from orchestrion.sandbox.gateway.tunnel import Tunnel

    monkeypatch.setattr(Tunnel, "_must_be_tls", True)
    async with server(hold) as port:
        network, operator = here("good.example", port=port)
        async with serving(tmp_path, network, operator=operator, names=Names(good_example=["127.0.0.1"])) as served:
            _, reader, writer = await served.tunnel(f"good.example:{port}")
            writer.write(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            assert await reader.read() == b""
            writer.close()
            assert "Only TLS" in (await served.journal.until("denied"))[0].reason


@pytest.mark.parametrize(
    "request_",
    [
        *(
            "GET ftp://good.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET http://u:p@good.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        ),
        *("CONNECT good.example HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT good.example:0 HTTP/1.1\r\nHost: x\r\n\r\n"),
        *("CONNECT ::1:443 HTTP/1.1\r\nHost: x\r\n\r\n", "GET https://good.example/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        *(
            "nonsense\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
        ),
        "CONNECT good.example:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
async def test_a_request_that_makes_no_sense_is_answered_with_a_sentence(tmp_path: Path, request_: str) -> None:
    async with serving(tmp_path, Network(allow=("*",))) as served:
        answer = await served.ask(request_)
        assert answer.split()[1] == b"400"
        assert sentence(answer).endswith(".")


async def test_a_head_that_is_too_large_too_slow_or_one_too_many_is_turned_away(tmp_path: Path) -> None:
    limits = GatewayLimits(connections=2, head_seconds=0.2, head_bytes=4096)
    async with serving(tmp_path, Network(allow=("*",)), limits=limits) as served:
        large = await served.ask(b"GET http://a.example/ HTTP/1.1\r\nX: " + b"x" * 8192)
        assert large.split()[1] == b"431"
        assert await served.ask("GET http://a.exa") == b""
        kept = [await served.connect() for _ in range(2)]
        for _, writer in kept:
            writer.write(b"G")
        crowded = await served.ask("GET http://a.example/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert crowded.split()[1] == b"503"
        for _, writer in kept:
            writer.close()


async def test_a_broken_answer_is_seen_as_broken(tmp_path: Path) -> None:
    async def broken(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/garbage" in head:
            writer.write(b"\x00\x01garbage\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")

    async with server(broken) as port:
        network, operator = here("good.example", port=port)
        async with serving(tmp_path, network, operator=operator, names=Names(good_example=["127.0.0.1"])) as served:
            assert (await served.get(f"http://good.example:{port}/garbage")).split()[1] == b"502"
            reader, writer = await served.connect()
            writer.write(f"GET http://good.example:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(100)
            writer.close()
        assert (tmp_path / "run" / "gateway.sock").exists() is False


async def test_a_host_that_is_not_there_is_a_bad_gateway(tmp_path: Path) -> None:
    async with server(echo) as port:
        pass
    network, operator = here("good.example", "nowhere.example", port=port)
    async with serving(tmp_path, network, operator=operator, names=Names(good_example=["127.0.0.1"])) as served:
        dead = await served.get(f"http://good.example:{port}/")
        assert (dead.split()[1], "does not answer" in sentence(dead)) == (b"502", True)
        unknown = await served.get(f"http://nowhere.example:{port}/")
        assert (unknown.split()[1], "no host called" in sentence(unknown)) == (b"502", True)


async def test_a_flood_of_requests_is_a_handful_of_events(tmp_path: Path) -> None:
    async with serving(tmp_path, Network(allow=("good.example",))) as served:
        for number in range(300):
            assert (await served.get(f"http://evil{number % 150}.example/")).split()[1] == b"403"
        await served.gateway.revoke(ID, served.grant)
        denied = served.journal.egress("denied")
        assert sum(event.requests for event in denied) == 300
        assert len(denied) <= 64 + 1 + 65 * 3
        assert {event.host for event in denied} >= {"evil0.example", "evil63.example", "…"}


async def test_the_first_of_a_kind_is_told_at_once_and_the_rest_in_sums() -> None:
    journal = Journal()
    report = EgressReport(ID, journal.emit, first_wait=0.01)
    kind = Kind("evil.example", 443, "denied", reason="No.")
    for _ in range(1000):
        await report.add(kind)
    assert [event.requests for event in journal.egress("denied")] == [1]
    await report.close()
    assert [event.requests for event in journal.egress("denied")] == [1, 999]


async def test_nothing_is_left_open_however_a_connection_ends(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async with server(hold) as port:
        network, operator = here("good.example", port=port)
        async with serving(tmp_path, network, operator=operator, names=Names(good_example=["127.0.0.1"])) as served:
            before = descriptors()
            for number in range(30):
                _, reader, writer = await served.tunnel(f"good.example:{port}")
                writer.write(b"go\r\n\r\n")
                await reader.readexactly(5)
                if number % 3 == 0:
                    writer.transport.abort()
                elif number % 3 == 1:
                    writer.write_eof()
                    await reader.read()
                writer.close()
            async with asyncio.timeout(10):
                while descriptors() > before:
                    await asyncio.sleep(0.05)


async def test_a_path_of_any_length_and_a_socket_left_behind(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    for _ in range(2):
        async with serving(deep, Network()) as served:
            path = served.path
            link = tmp_path / "short"
            link.unlink(missing_ok=True)
            link.symlink_to(path.parent)
            reader, writer = await asyncio.open_unix_connection(link / path.name)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.read()).split()[1] == b"404"
            writer.close()
            await served.gateway.open(ID, path, Network())
        assert not path.exists()
        path.touch()
