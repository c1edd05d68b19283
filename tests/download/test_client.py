"""A server that misbehaves: bytes come back, or one reason, and after so many requests."""

import asyncio
import gc
import resource
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver

from dedup import __version__
from dedup.download.client import Fetcher, Session
from dedup.download.hosts import Patience
from dedup.errors import ConfigError, FetchError
from tests.conftest import python
from tests.support.hostile import IMAGE, Site, hostile, make_certificates

ROOT = Path(__file__).parents[2]
QUICK = Patience(failures=4, pauses=(0.05, 0.1), down=0.5, backoff=0.01)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with hostile() as found:
        yield found


def session(
    resolver: AbstractResolver | None = None, tls: ssl.SSLContext | None = None, **settings: Any
) -> Session:
    """A session that may reach this machine, and gives up early."""
    limits: dict[str, Any] = {"attempts": 2, "idle_timeout": 0.2, "timeout": 0.4}
    limits |= {"max_bytes": 10_000, "allow_networks": ["127.0.0.0/8"]}
    return Session(Fetcher(**{**limits, **settings}), resolver, QUICK, tls)


async def fetch_all(entered: Session, addresses: Sequence[str]) -> list[bytes | str]:
    """Bytes or the reason, address by address, all at once."""

    async def fetch(address: str) -> bytes | str:
        try:
            return await entered.fetch(address)
        except FetchError as error:
            return error.reason if error.detail and "secret" not in str(error) else str(error)

    return await asyncio.gather(*map(fetch, addresses))


def fetch_one(address: str, **settings: Any) -> bytes | str:
    """Bytes or the reason, by a session of its own."""

    async def main() -> bytes | str:
        async with session(**settings) as entered:
            return (await fetch_all(entered, [address]))[0]

    return asyncio.run(main())


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


CASES: list[tuple[str, str, str | bytes, int]] = [  # id, path, what comes of it, requests
    *(("H1", f"status/{status}", f"http_{status}", 1) for status in (404, 410)),
    *(("H2", f"status/{status}", f"http_{status}", 1) for status in (400, 401, 403, 451)),
    *(("H4", f"status/{s}", f"http_{s}", 2) for s in (408, 425, 429, 500, 502, 503, 504)),
    ("H4", "status/501", "http_501", 1),
    ("H4", "first/1/status/500/a", IMAGE, 2),
    ("H5", "loop", "redirect", 6),
    ("H5", "hops/5", IMAGE, 1),
    ("H5", "hops/6", "redirect", 1),
    ("H5", "nowhere", "http_302", 1),
    ("H5", "to?file:///etc/passwd", "redirect", 1),
    ("H5", "to?http://169.254.169.254/", "blocked_address", 1),
    ("H5", "to?http://127.0.0.1:22/", "port", 1),
    ("H5", "to?http://[::1", "redirect", 1),
    ("H5", "to?/picture", IMAGE, 1),
    ("H5", "to?/echo/a b%3Fc=å", b"/echo/a%20b?c=%C3%A5", 1),
    ("H5", "to?/echo/%E5", b"/echo/%E5", 1),  # a header with a byte that is no UTF-8
    ("H5", "to?/status/404", "http_404", 1),
    ("H6", "silence", "timeout", 2),
    ("H6", "first/1/silence", IMAGE, 2),
    ("H6", "stall", "timeout", 2),
    ("H7", "drip", "timeout", 2),
    ("H8", "slow_head", "timeout", 2),
    ("H8", "large_head", "bad_answer", 1),
    ("H8", "long_head", "bad_answer", 1),
    ("H9", "short", "truncated", 2),
    ("H9", "first/1/short", IMAGE, 2),
    ("H10", "early_close", IMAGE[:99], 1),
    ("H10", "unsized", IMAGE, 1),
    ("H11", "short_chunk", "truncated", 2),
    ("H11", "first/1/short_chunk", IMAGE, 2),
    ("H11", "first/1/broken_first_chunk", IMAGE, 2),
    ("H11", "chunks", b"abcde", 1),
    ("H12", "huge", "too_large", 1),
    ("H13", "endless", "too_large", 1),
    ("H14", "packed/gzip_bomb", "bomb", 1),
    ("H14", "packed/deflate_bomb", "bomb", 1),
    ("H14", "packed/six_times", "encoding", 1),
    ("H14", "packed/br", "encoding", 1),
    ("H14", "packed/zstd", "encoding", 1),
    ("H14", "packed/no_gzip", "encoding", 1),
    ("H14", "packed/cut_gzip", "truncated", 2),
    ("H14", "packed/empty_gzip", "empty", 1),
    *(
        ("H14", f"packed/{name}", IMAGE, 1)
        for name in ("identity", "gzip", "x_gzip", "deflate", "raw_deflate")
    ),
    ("H15", "wrongly_typed", IMAGE, 1),
    ("H16", "login", b"<html>Log in</html>", 1),  # decoding finds out
    ("H17", "empty", "empty", 1),
    *(("H18", f"status/{status}", f"http_{status}", 1) for status in (204, 206, 304)),
    ("H20", "reset", "truncated", 2),
    ("H20", "first/1/reset", IMAGE, 2),
    ("H20", "first/1/nothing", IMAGE, 2),
    ("H21", "changing", b"1", 1),
    ("H21", "changing", b"2", 1),
    ("H22", "robots?noindex|otherbot: noai", IMAGE, 1),
    ("H22", "robots?noindex|NoAI", "robots", 1),
    ("H23", "cookies", b"none", 1),
    ("other", "nonsense", "bad_answer", 1),
    ("other", "nothing", "connection", 2),
    ("other", "header/user-agent", f"dedup-catalogue/{__version__}".encode(), 1),
    ("other", "header/accept-encoding", b"identity", 1),
]


@pytest.mark.parametrize(("case", "path", "expected", "requests"), CASES)
def test_every_answer_has_its_end(
    site: Site, case: str, path: str, expected: str | bytes, requests: int
) -> None:
    before = site.requests[f"/{path.partition('?')[0]}"]
    start = monotonic()
    assert fetch_one(site / path, robots=["noai"]) == expected, case
    assert site.requests[f"/{path.partition('?')[0]}"] - before == requests
    assert monotonic() - start < 20  # and not the minute of a server that waits


def test_a_chunk_that_cannot_be_read_ends_the_body(site: Site) -> None:
    assert fetch_one(site / "broken_chunk", attempts=1, timeout=5, idle_timeout=5) == "truncated"
    assert fetch_one(site / "first/1/broken_chunk", timeout=5) == IMAGE


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("a b.jpg", "a%20b.jpg"),
        ("blå.jpg", "bl%C3%A5.jpg"),
        ("a%20b%C3%A5.jpg", "a%20b%C3%A5.jpg"),
        ("50%.jpg", "50%25.jpg"),
        ("x_{@width}.jpg?q={@quality}", "x_%7B@width%7D.jpg?q=%7B@quality%7D"),
        ("1.jpg?name=grå byxa&size=a/b", "1.jpg?name=gr%C3%A5%20byxa&size=a/b"),
        ("1.jpg?token=secret+%2F", "1.jpg?token=secret+%2F"),  # U19
        ("1.jpg#part", "1.jpg"),
        ("../a/./b//c", "../a/./b//c"),
    ],
)
def test_an_address_is_quoted_once(site: Site, asked: str, sent: str) -> None:  # U17
    assert fetch_one(site / f"echo/{asked}") == f"/echo/{sent}".encode()


@pytest.mark.parametrize("path", ["status/404", "stall", "short", "nothing", "nonsense", "loop"])
def test_what_follows_the_question_mark_is_told_to_nobody(site: Site, path: str) -> None:  # U19
    found = fetch_one(site / f"{path}?token=secret", attempts=1)
    assert isinstance(found, str)
    assert "secret" not in found


@pytest.mark.parametrize(
    ("value", "limit", "least", "most"),
    [
        ("0", 10, 0, 10),
        ("garbage", 10, 0, 10),
        ("1000000000", 0.3, 0.3, 30),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 0.3, 0.3, 30),
    ],
)
def test_a_server_may_ask_for_a_wait_up_to_a_limit(  # H3
    site: Site, value: str, limit: float, least: float, most: float
) -> None:
    start = monotonic()
    assert fetch_one(site / f"first/1/wait/{value}", max_wait=limit) == IMAGE
    assert least <= monotonic() - start < most


def test_a_body_may_have_the_largest_size_and_no_byte_more(site: Site) -> None:
    for name in ("picture", "unsized", "packed/gzip"):
        assert fetch_one(site / name, max_bytes=len(IMAGE)) == IMAGE
    for name in ("picture", "unsized"):
        assert fetch_one(site / name, max_bytes=len(IMAGE) - 1) == "too_large"
    assert fetch_one(site / "packed/raw_deflate", max_bytes=len(IMAGE) - 1) == "bomb"


def test_an_endless_body_is_cut_early_and_all_is_counted(site: Site) -> None:
    async def main() -> None:
        async with session() as entered:
            await fetch_all(entered, [site / "endless"])
            assert 10_000 < entered.received < 1_000_000
            before = entered.received
            await fetch_all(entered, [site / "picture", site / "hops/2"])
            assert entered.received - before == 2 * len(IMAGE)
            assert entered.requests == 1 + 1 + 3

    asyncio.run(main())


def test_a_cookie_is_never_sent_back(site: Site) -> None:  # H23
    async def main() -> None:
        async with session() as entered:
            for _ in range(2):
                assert await entered.fetch(site / "cookies") == b"none"
            assert await entered.fetch(site / "header/cookie") == b"none"

    asyncio.run(main())


def test_one_address_is_fetched_without_a_session(site: Site) -> None:
    fetcher = Fetcher(allow_networks=["127.0.0.1/32"], contact="https://shop.test/bot")
    agent = f"dedup-catalogue/{__version__} (+https://shop.test/bot)"
    assert fetcher.fetch(site / "header/user-agent").decode() == agent
    with pytest.raises(FetchError, match="blocked_address"):
        Fetcher().fetch(site / "picture")
    with pytest.raises(ConfigError, match="contact"):
        Fetcher(contact="a\r\nb").fetch(site / "picture")


def test_no_server_there_is_a_connection_that_failed() -> None:
    assert fetch_one(f"http://127.0.0.1:{closed_port()}/1.jpg") == "connection"


def test_connections_are_limited_and_deadlines_begin_with_them() -> None:
    async def main(first: Site, second: Site) -> None:
        async with session(connections=5, per_host=3, timeout=0.5) as entered:
            addresses = [place / f"picture/{n}" for n in range(15) for place in (first, second)]
            assert await fetch_all(entered, addresses) == [IMAGE] * 30

    with hostile() as first, hostile() as second:
        first.delay = second.delay = 0.15  # 30 of them, 5 at once, take 0.9 s
        asyncio.run(main(first, second))
        assert first.most_at_once == second.most_at_once == 3
        assert len(first.connections) == len(second.connections) == 3  # used again


def test_redirects_to_each_other_do_not_lock_two_hosts() -> None:
    async def main(first: Site, second: Site) -> None:
        there, back = f"to?{second / 'picture'}", f"to?{first / 'picture'}"
        async with session(per_host=1, timeout=5) as entered:
            addresses = [first / there, second / back] * 10
            assert await fetch_all(entered, addresses) == [IMAGE] * 20

    with hostile() as first, hostile() as second:
        asyncio.run(asyncio.wait_for(main(first, second), 5))


def test_a_slow_host_leaves_the_others_their_connections() -> None:
    async def main(slow: Site, fast: Site) -> None:
        async with session(connections=8, per_host=4, timeout=60, idle_timeout=60) as entered:
            loris = [
                asyncio.create_task(entered.fetch(slow / f"silence?{n}")) for n in range(50)
            ]  # fmt: skip
            await asyncio.sleep(0.05)
            addresses = [fast / f"picture/{n}" for n in range(200)]
            assert await fetch_all(entered, addresses) == [IMAGE] * 200
            assert not any(task.done() for task in loris)  # nothing waited for the slow host
            for task in loris:
                task.cancel()
            await asyncio.gather(*loris, return_exceptions=True)

    with hostile() as slow, hostile() as fast:
        asyncio.run(main(slow, fast))


def test_no_request_begins_while_the_gate_is_closed() -> None:
    async def main(site: Site) -> None:
        async with session(connections=4, per_host=4) as entered:
            entered.gate.clear()
            addresses = [site / f"picture/{n}" for n in range(20)]
            fetching = asyncio.create_task(fetch_all(entered, addresses))
            await asyncio.sleep(0.1)
            assert entered.requests == site.requests.total() == 0
            entered.gate.set()
            assert await fetching == [IMAGE] * 20

    with hostile() as site:
        asyncio.run(main(site))


def test_a_host_that_comes_and_goes_loses_no_row() -> None:
    async def flap(site: Site) -> None:
        for _ in range(4):
            await asyncio.sleep(0.1)
            site.up = not site.up

    async def main(site: Site) -> None:
        site.delay = 0.005
        async with session(per_host=8, attempts=5) as entered:
            flapping = asyncio.create_task(flap(site))
            addresses = [site / f"picture/{n}" for n in range(300)]
            assert await fetch_all(entered, addresses) == [IMAGE] * 300
            await flapping
            assert entered.outage == ""
            assert entered.requests <= 3 * 300

    with hostile() as site:
        asyncio.run(main(site))


def test_leaving_ends_all_at_once_and_leaves_nothing_open(site: Site) -> None:
    async def main() -> None:
        async with session(timeout=60, idle_timeout=60) as entered:
            names = ("silence", "stall", "drip", "endless", "slow_head", "wait/60")
            tasks = [asyncio.create_task(entered.fetch(site / name)) for name in names]
            await asyncio.sleep(0.2)
            for task in tasks:
                task.cancel()
            start = monotonic()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert monotonic() - start < 20  # and not their minute
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main(), debug=True)
    gc.collect()  # where a socket was left open, its ResourceWarning fails this test


def run_out_of_files() -> None:
    """Run in a process of its own: 30 connections where 10 files may be opened."""

    async def main(site: Site) -> None:
        async with session(per_host=30, timeout=5, idle_timeout=5) as entered:
            open_now = len(list(Path("/proc/self/fd").iterdir()))
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 10, hard))
            with pytest.raises(ConfigError, match="too many open files: lower"):
                await fetch_all(entered, [site / f"silence?{n}" for n in range(30)])

    with hostile() as site:
        asyncio.run(main(site))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files by /proc")
def test_too_many_open_files_stop_the_run_with_advice() -> None:
    script = "from tests.download.test_client import run_out_of_files; run_out_of_files()"
    done = python("-c", script, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``make_certificates``."""
    folder = tmp_path_factory.mktemp("certificates")
    try:
        make_certificates(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs an openssl that can make the certificates: {error}")
    return folder


def tls_contexts(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server with the certificate of this name, and a client that trusts the authority."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / f"{name}.pem", folder / "key.pem")
    return server, ssl.create_default_context(cafile=str(folder / "ca.pem"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("good", IMAGE), ("expired", "tls"), ("other_host", "tls"), ("self_signed", "tls")],
)
def test_certificates_are_verified(certificates: Path, name: str, expected: str | bytes) -> None:
    server, ours = tls_contexts(certificates, name)
    with hostile(tls=server) as site:
        assert fetch_one(site / "picture", tls=ours, timeout=5) == expected  # H19
        assert len(site.connections) <= 1


def test_a_redirect_from_https_to_http_is_refused(certificates: Path, site: Site) -> None:  # H5
    server, ours = tls_contexts(certificates, "good")
    with hostile(tls=server) as safe:
        assert fetch_one(safe / f"to?{site / 'picture'}", tls=ours, timeout=5) == "redirect"
        assert fetch_one(safe / f"to?{safe / 'picture'}", tls=ours, timeout=5) == IMAGE
        assert fetch_one(site / f"to?{safe / 'picture'}", tls=ours, timeout=5) == IMAGE


def test_https_from_a_server_without_it_is_a_tls_failure(site: Site) -> None:
    assert fetch_one((site / "picture").replace("http:", "https:")) == "tls"
