"""Real look-ups of hostile names: nothing inside is connected to, and little is asked of others."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from dedup.download.client import LOOKUPS_PER_CONNECTION, Fetcher, Session
from dedup.download.ssrf import MAX_ADDRESSES, Guard, GuardedResolver
from dedup.errors import FetchError
from tests.support.hostile import DRAWN, Answers, hostile
from tests.support.nameserver import ATTACKS, CUT, REBOUND, many, naming, setup, split

ROOT = Path(__file__).parents[2]
HANGING = [f"hanging-{number}.test" for number in range(16)]
ZONE = {name: answer for name, (answer, _) in ATTACKS.items()} | REBOUND


async def outcome(session: Session, address: str) -> str:
    """Why an image cannot be had, or ``ok``."""
    try:
        return "ok" if await session.fetch(address) == DRAWN else "another image"
    except FetchError as error:
        return error.reason


async def outcomes(fetcher: Fetcher, names: Iterable[str]) -> dict[str, str]:
    """What becomes of an image at each of some hosts."""
    names = list(names)
    async with fetcher.session() as session:
        found = [outcome(session, f"http://{name}/drawn") for name in names]
        return dict(zip(names, await asyncio.gather(*found), strict=True))


def connects() -> int:
    """How many connections this network has begun."""
    lines = Path("/proc/net/snmp").read_text(encoding="ascii").splitlines()
    names, values = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(values[names.index("ActiveOpens")])


def try_names() -> None:
    """Run in a network of its own, whose name service is ours."""
    fetcher, found = Fetcher(attempts=1, timeout=5), {}
    hanging = dict.fromkeys(HANGING, split(A=CUT, AAAA=CUT))
    closed = {"closed.test": many("9.9.31.1", 20)}
    with (
        naming(ZONE | hanging | closed),
        hostile("0.0.0.0", 80) as site,
        hostile("::", 80) as site6,
    ):
        found["attacks"] = asyncio.run(outcomes(fetcher, ATTACKS))
        found["rebound"] = [asyncio.run(outcomes(fetcher, REBOUND)) for _ in "ab"]
        before = connects()
        found["closed"] = asyncio.run(one(fetcher, "https://closed.test/"))
        found["knocks"] = connects() - before
        asked = Fetcher(attempts=1, timeout=1, connections=2)
        found["hanging"] = asyncio.run(outcomes(asked, HANGING))
        found["reached"] = sorted(set(site.connections + site6.connections))
    print(json.dumps(found))


async def one(fetcher: Fetcher, address: str) -> str:
    """What becomes of one address."""
    async with fetcher.session() as session:
        return await outcome(session, address)


def test_names_that_lead_inside_lead_nowhere(tmp_path: Path) -> None:
    command = setup(tmp_path)
    if not command:
        pytest.skip("this machine gives nobody a network of its own")
    script = "from tests.integration.test_names import try_names; try_names()"
    done = subprocess.run(
        [*command, sys.executable, "-c", script],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["attacks"]) == set(ATTACKS)
    for name, said in found["attacks"].items():
        assert said in ATTACKS[name][1].split(" or "), name
    assert found["rebound"] == [
        dict.fromkeys(REBOUND, "ok"),
        dict.fromkeys(REBOUND, "blocked_address"),
    ]
    assert all(Guard().check(address) is None for address in found["reached"])
    assert len(found["reached"]) > 2
    assert found["closed"] == "connection"
    assert 0 < found["knocks"] < MAX_ADDRESSES**2
    hanging = list(found["hanging"].values())
    assert hanging.count("timeout") == 2 * LOOKUPS_PER_CONNECTION
    assert hanging.count("dns") == len(HANGING) - 2 * LOOKUPS_PER_CONNECTION


def test_few_of_many_addresses_are_connected_to_and_all_are_judged() -> None:
    public = [f"9.9.9.{number}" for number in range(200)]
    names = Answers(public_test=[public], mixed_test=[[*public, "127.0.0.1"]])
    guarded = GuardedResolver(Guard(), names)
    chosen = asyncio.run(guarded.resolve("public.test"))
    assert [answer["host"] for answer in chosen] == public[:MAX_ADDRESSES]
    with pytest.raises(FetchError, match="blocked_address"):
        asyncio.run(guarded.resolve("mixed.test"))
