"""No socket is ever connected to the inside, however the address is written or reached."""

import asyncio
import json
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote

import pytest

from dedup.download.client import Fetcher, Session
from dedup.download.hosts import Patience
from dedup.download.ssrf import Guard, SystemResolver, read_link, read_networks
from dedup.errors import ConfigError, FetchError
from tests.support.hostile import IMAGE, Answers, Site, hostile

ROOT = Path(__file__).parents[2]

BLOCKED_HOSTS = [
    # U7: this machine
    *("127.0.0.1", "127.1", "127.0.1", "0x7f000001", "0X7F.0.0.1", "0x7f.1", "2130706433"),
    *("0177.0.0.1", "017700000001", "0", "0.0.0.0", "127.0.0.1.", "127.255.255.254", "localhost"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "LOCALHOST", "0x0", "00", "0x7f.0x0.0x0.0x1"),
    # U8: IPv4 in IPv6, and what IPv6 calls local
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:10.0.0.1]", "[::127.0.0.1]"),
    *("[64:ff9b::7f00:1]", "[64:ff9b::169.254.169.254]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]"),
    *(
        "[2002:a9fe:a9fe::1]",
        "[2001:0:7f00:1::]",
        "[fec0::1]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd12::9]",
    ),
    *(
        "[ff02::1]",
        "[100::1]",
        "[2001:db8::1]",
        "[3fff::1]",
        "[5f00::1]",
        "[4000::1]",
        "[2001:2::1]",
    ),
    # U9: where clouds hand out credentials
    *("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("[fd00:ec2::254]", "metadata.google.internal", "Metadata.Google.Internal.", "0xa9fea9fe"),
    # U10: private, shared, reserved
    *("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "100.64.0.1"),
    *("100.127.255.255", "198.18.0.1", "198.19.255.255", "192.0.2.1", "198.51.100.1", "167772161"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.88.99.1"),
    # U11: names whose answers are private, or mixed
    *("private.test", "mixed.test", "mixed6.test", "mapped.test", "nat64.test", "metadata.test"),
    # U14: digits that are digits after normalisation alone
    *(
        "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
        "127\u30020\u30020\u30021",
        "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
        "\uff10\uff58\uff17\uff46.1",
        "\uff4cocalhost",
    ),
]
BAD_URLS = [  # U1, U13, U16 and hosts that are read in more than one way
    *("www.shop.test/1.jpg", "/etc/passwd", "", "http:/127.0.0.1/", "http:///x"),
    *("http://good@127.0.0.1:{port}/", "http://good:word@127.0.0.1/", "http://good\\@127.0.0.1/"),
    *("http://127.0.0.1\\.shop.test/", "http://127.0.0.1\t/", "http://127.0.0.1\n/", "http://a\r/"),
    *("http://127.0.0.1%2f.shop.test/", "http://%31%32%37.0.0.1/", "http://127.0.0.1 .test/"),
    *(
        "http://1.2.3.4.5/",
        "http://0x7f.0.0.0x1ff/",
        "http://256.1.1.1/",
        "http://[::1",
        "http://::1/",
    ),
    *("http://[fe80::1%25lo]/", "http://[::1].test/", "http://127.0.0\u200b.1/", "http://:80/"),
    *("http://a..b/", "http://.a/", "http://-/" + "a" * 8192, "http://" + "a" * 64 + ".test/"),
    *(
        "http://å..se/",
        "http://" + "å" * 80 + ".se/",
        "http://a:port/",
        "http://a:65536/",
        "http://a b/",
    ),
]
OTHER_SCHEMES = [  # U2 to U6
    *(
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "ftp://127.0.0.1/1.jpg",
    ),
    *(
        "gopher://127.0.0.1:{port}/_GET",
        "javascript:alert(1)",
        "dict://127.0.0.1:{port}/",
        "jar:http://a!/",
    ),
]
OTHER_PORTS = [  # U15
    f"http://8.8.8.8:{port}/" for port in (0, 22, 25, 81, 1433, 2375, 3306, 5432, 6379, 9200, 27017)
]  # fmt: skip
BUCKETS = ["s3://shop/1.jpg", "GS://shop/1.jpg", "az://shop/1.jpg", "hf://datasets/a/b/1.jpg"]
CORPUS = {
    **{f"http://{host}:{{port}}/picture": "blocked_address" for host in BLOCKED_HOSTS},
    **dict.fromkeys(BAD_URLS, "bad_url"),
    **dict.fromkeys(OTHER_SCHEMES, "scheme"),
    **dict.fromkeys(OTHER_PORTS, "port"),
    **dict.fromkeys(BUCKETS, "blocked_scheme"),
}
# Not as the value of a header, and not where they mean a page of the site that redirects.
NO_REDIRECT = {"www.shop.test/1.jpg", "/etc/passwd", "", "http:/127.0.0.1/", "http:///x"}
REDIRECTED = {
    "//127.0.0.1:{port}/picture": "blocked_address",
    "//[::1]:{port}/picture": "blocked_address",
    **{
        address: reason if reason in ("blocked_address", "port") else "redirect"
        for address, reason in CORPUS.items()
        if address.isprintable() and address.isascii() and len(address) < 8000
        if address not in NO_REDIRECT
    },
}
NAMES: dict[str, list[list[str] | OSError]] = {
    "localhost": [["127.0.0.1", "::1"]],
    "private_test": [["10.0.0.1"]],
    "mixed_test": [["8.8.8.8", "127.0.0.1"]],
    "mixed6_test": [["8.8.8.8", "::1"]],
    "mapped_test": [["::ffff:127.0.0.1"]],
    "nat64_test": [["64:ff9b::a00:1"]],
    "metadata_test": [["169.254.169.254"]],
}


async def reasons(session: Session, addresses: Iterable[str]) -> dict[str, str]:
    """Why each address fails; "" for those that do not."""
    found = {}
    for address in addresses:
        try:
            await session.fetch(address)
            found[address] = ""
        except FetchError as error:
            found[address] = error.reason
    return found


async def corpus_reasons(port: int, start: str = "") -> dict[str, str]:
    """Why each address of the corpus fails, asked for itself or by a redirect from ``start``."""
    fetcher = Fetcher(timeout=5, attempts=1, allow_networks=["127.0.0.2/32"])
    names, found = Answers(**NAMES), {}
    async with Session(fetcher, names) as session:
        for address in REDIRECTED if start else CORPUS:
            target = address.replace("{port}", str(port))
            asked = start + quote(target, safe="") if start else target
            found[address] = (await reasons(session, [asked]))[asked]
    assert not any("metadata.google" in name.lower() for name in names.asked)
    return found


def test_the_corpus_is_large_enough() -> None:
    assert len(REDIRECTED) > 100


def test_nothing_inside_is_connected_to() -> None:
    with hostile("0.0.0.0") as site:
        assert asyncio.run(corpus_reasons(site.port)) == CORPUS
        assert site.connections == []


def test_redirects_lead_nowhere_inside() -> None:
    with hostile("0.0.0.0") as site:
        site.host = "127.0.0.2"
        assert asyncio.run(corpus_reasons(site.port, site / "to?")) == REDIRECTED
        assert set(site.connections) == {"127.0.0.2"}


def try_whole_network() -> None:
    """Run in a network of its own where every address of the world is this machine."""
    with hostile("0.0.0.0") as site, hostile("::", site.port) as site6:
        place = f"http://9.9.9.9:{site.port}"
        found = asyncio.run(corpus_reasons(site.port))
        leaks = site.connections + site6.connections
        redirected = asyncio.run(corpus_reasons(site.port, f"{place}/to?"))
        hops = site.connections + site6.connections
        site.connections.clear()
        control = ["8.8.8.8", "[2600::1]", "[64:ff9b::808:808]"]
        asyncio.run(control_reasons([f"http://{host}:{site.port}/picture" for host in control]))
        reached = site.connections + site6.connections
    print(json.dumps([found, leaks, redirected, sorted(set(hops)), reached]))


async def control_reasons(addresses: list[str]) -> None:
    async with Fetcher(attempts=1).session() as session:
        found = await reasons(session, addresses)
    assert set(found.values()) == {""}, found


def test_nothing_inside_is_connected_to_where_all_addresses_answer() -> None:
    network = (
        "ip link set lo up; ip route add local 0.0.0.0/0 dev lo; ip -6 route add local ::/0 dev lo"
    )
    setup = ["unshare", "-rn", "sh", "-ec", f'{network}; exec "$@"', "sh"]
    if not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("needs unshare and ip")
    if subprocess.run([*setup, "true"], capture_output=True).returncode:
        pytest.skip("this machine gives nobody a network namespace")
    script = "from tests.download.test_ssrf import try_whole_network; try_whole_network()"
    done = subprocess.run(
        [*setup, sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True,
        timeout=60, env={"http_proxy": "http://127.0.0.1:9", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, leaks, redirected, hops, reached = json.loads(done.stdout)
    assert (found, leaks) == (CORPUS, [])
    assert (redirected, hops) == (REDIRECTED, ["9.9.9.9"])
    assert reached == ["8.8.8.8", "2600::1", "64:ff9b::808:808"]  # the network is no dead one


def rebinding(site: Site, *answers: list[str]) -> tuple[Session, Answers]:
    """A session that takes 127.0.0.2 for a public address, and a name with these answers."""
    site.host, names = "rebind.test", Answers(rebind_test=list(answers))
    return Session(Fetcher(attempts=1, allow_networks=["127.0.0.2/32"]), names), names


def test_a_name_is_looked_up_once_and_no_second_answer_is_used() -> None:
    async def fetch_twice(site: Site) -> None:
        session, names = rebinding(site, ["127.0.0.2"], ["127.0.0.1"])
        async with session:
            assert await session.fetch(site / "picture") == IMAGE
            assert await session.fetch(site / "unsized") == IMAGE  # and again by a new connection
            assert await session.fetch(site / "picture") == IMAGE
        assert names.asked == ["rebind.test"]
        async with session:
            assert set((await reasons(session, [site / "picture"])).values()) == {"blocked_address"}
        assert names.asked == ["rebind.test"] * 2

    with hostile("0.0.0.0") as site:
        asyncio.run(fetch_twice(site))
        assert set(site.connections) == {"127.0.0.2"}


def test_a_name_that_a_redirect_leads_to_is_judged_too() -> None:
    async def fetch(site: Site) -> dict[str, str]:
        session, names = rebinding(site, ["127.0.0.2"])
        names.names |= {"inside.test": [["127.0.0.1"]]}
        async with session:
            return await reasons(session, [site / f"to?http://inside.test:{site.port}/picture"])

    with hostile("0.0.0.0") as site:
        assert set(asyncio.run(fetch(site)).values()) == {"blocked_address"}
        assert site.connections == ["127.0.0.2"]


def test_a_name_with_both_kinds_of_addresses_is_reached_by_ipv4() -> None:
    async def fetch(site: Site) -> bytes:
        session, _ = rebinding(site, ["2600::1", "127.0.0.2"])
        async with session:
            return await session.fetch(site / "picture")

    with hostile("0.0.0.0") as site:
        assert asyncio.run(fetch(site)) == IMAGE


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.0/8", "10.1.2.3", "192.168.0.1"),
        ("127.0.0.1/32", "127.0.0.1", "127.0.0.2"),
        ("fd00::/8", "fd12::1", "fe80::1"),
        ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:127.0.0.1"),
        ("169.254.169.254/32", "169.254.169.254", "169.254.169.253"),
        ("0.0.0.0/0", "192.168.0.1", "169.254.169.254"),
        ("100.64.0.0/10", "100.100.100.201", "100.100.100.200"),
        ("::/0", "fd12::1", "fd00:ec2::254"),
        ("::/0", "::1", "::ffff:168.63.129.16"),
    ],
)
def test_networks_are_opened_and_metadata_by_its_own_address_alone(
    network: str, inside: str, outside: str
) -> None:
    guard = Guard(read_networks([network]))
    guard.check(inside)
    with pytest.raises(FetchError, match="blocked_address"):
        guard.check(outside)


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0.0/33", "shop.test", "", "10"])
def test_a_network_that_is_none_is_a_config_error(network: str) -> None:
    async def enter() -> None:
        async with Fetcher(allow_networks=[network]).session():
            """Never here."""

    with pytest.raises(ConfigError, match="allow_networks"):
        asyncio.run(enter())


@pytest.mark.parametrize(
    "address",
    [
        *(
            "9.255.255.255",
            "11.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "1.1.1.1",
        ),
        *("100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255"),
        *("198.17.255.255", "198.20.0.0", "223.255.255.255", "192.0.1.0", "192.88.100.1"),
        *("2600::1", "2a00:1450::1", "2001:4860:4860::8888", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"),
    ],
)
def test_public_addresses_next_to_the_private_ones_are_open(address: str) -> None:
    Guard().check(address)


def test_whatever_python_calls_private_is_refused() -> None:
    dice, guard = random.Random(5), Guard()
    refused = 0
    for _ in range(5000):
        ip = ip_address(dice.getrandbits(32))
        if not ip.is_global:
            refused += 1
            with pytest.raises(FetchError):
                guard.check(str(ip))
    assert refused > 300


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("HTTP://Shop.TEST/A b.jpg", "http://shop.test/A%20b.jpg"),
        ("http://shop.test", "http://shop.test/"),
        ("http://shop.test:80?x", "http://shop.test/?x"),
        ("https://shop.test:443/", "https://shop.test/"),
        ("https://shop.test:8443/", "https://shop.test:8443/"),
        ("http://shop.test/50%.jpg", "http://shop.test/50%25.jpg"),
        ("http://shop.test/a%2Fb%zz", "http://shop.test/a%2Fb%25zz"),
        ("http://shop.test/a\\b", "http://shop.test/a%5Cb"),
        ("http://shop.test/裤?q=裤#裤", "http://shop.test/%E8%A3%A4?q=%E8%A3%A4"),
        ("http://blåbär.test/", "http://xn--blbr-noae.test/"),
        ("http://faß.test/", "http://xn--fa-hia.test/"),
        ("http://xn--blbr-noae.test/", "http://xn--blbr-noae.test/"),
        ("http://\uff53\uff48\uff4f\uff50\u3002test/", "http://shop.test/"),
        ("http://my_shop.test./", "http://my_shop.test./"),
        ("http://0x08.8.8.8/", "http://8.8.8.8/"),
        ("http://[2600:0::01]:8080/", "http://[2600::1]:8080/"),
    ],
)
def test_an_address_is_written_in_one_way(asked: str, sent: str) -> None:
    assert read_link(asked).url == sent
    assert read_link(sent).url == sent


def test_the_system_is_asked_for_names() -> None:
    found = asyncio.run(SystemResolver(1).resolve("localhost", 80))
    assert {answer["host"] for answer in found} <= {"127.0.0.1", "::1"}
    with pytest.raises(OSError, match=r"."):
        asyncio.run(SystemResolver(1).resolve("no-such-name.invalid"))


def failure(names: Answers, address: str) -> str:
    """Why an address fails in three attempts."""

    async def main() -> str:
        patience = Patience(backoff=0.01)
        async with Session(Fetcher(attempts=3), names, patience) as session:
            return (await reasons(session, [address]))[address]

    return asyncio.run(main())


def test_a_name_that_does_not_exist_is_looked_up_twice() -> None:  # U18
    names = Answers()
    assert failure(names, "http://shop.test/") == "dns"
    assert names.asked == ["shop.test"] * 2


def test_a_name_service_that_does_not_answer_is_asked_again() -> None:
    names = Answers(shop_test=[OSError(socket.EAI_AGAIN, "try again later")])
    assert failure(names, "http://shop.test/") == "dns"
    assert names.asked == ["shop.test"] * 3
