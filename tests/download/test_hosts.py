"""A host's gate: how many pass, when it closes, who probes, and when it is given up."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from dedup.download.hosts import MAX_HOSTS, Hosts, Patience, check_robots, retry_after
from dedup.errors import FetchError
from tests.download.test_client import closed_port, fetch_all, session
from tests.support.clock import VirtualClock
from tests.support.hostile import IMAGE, Answers, Site, hostile

QUICK = Patience(failures=3, pauses=(0.1, 0.2), down=0.3)
Scenario = Callable[[Hosts], Awaitable[None]]


def play(scenario: Scenario, connections: int = 8, per_host: int = 4) -> None:
    """Run a scenario with hosts of little patience; it must end soon, and leave no task behind.

    Its time passes only while all wait, so that no load of the machine changes what happens.
    """

    async def main() -> None:
        async with asyncio.timeout(5):
            await scenario(Hosts(connections, per_host, QUICK))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=VirtualClock) as runner:
        runner.run(main())


def now() -> float:
    return asyncio.get_running_loop().time()


async def request(hosts: Hosts, name: str, answers: bool | None, seconds: float = 0.0) -> bool:
    """One request that is answered, or not, or that tells neither; whether it was a probe."""
    async with hosts.turn(name) as turn:
        await asyncio.sleep(seconds)
        if answers is not None:
            (turn.answered if answers else turn.failed)()
        return turn.probe


async def close(hosts: Hosts, name: str = "a") -> None:
    """Fail until the gate closes."""
    for _ in range(QUICK.failures):
        assert not await request(hosts, name, False)


async def expect_down(hosts: Hosts, name: str = "a") -> None:
    start = now()
    with pytest.raises(FetchError) as caught:
        await request(hosts, name, True)
    assert caught.value.reason == "host_down"
    assert now() - start < 0.1


def test_so_many_pass_at_once_to_a_host_and_in_all() -> None:
    async def scenario(hosts: Hosts) -> None:
        inside, most = dict.fromkeys("abc", 0), dict.fromkeys("abc*", 0)

        async def pass_through(name: str) -> None:
            async with hosts.turn(name):
                inside[name] += 1
                most[name] = max(most[name], inside[name])
                most["*"] = max(most["*"], sum(inside.values()))
                await asyncio.sleep(0.005)
                inside[name] -= 1

        await asyncio.gather(*(pass_through(name) for name in "abc" * 10))
        assert most == {"a": 4, "b": 4, "c": 4, "*": 10}

    play(scenario, connections=10)


def test_a_gate_closes_after_failures_in_a_row_alone() -> None:
    async def scenario(hosts: Hosts) -> None:
        for answers in [False, False, True] * 5:
            assert not await request(hosts, "a", answers)
        assert not await request(hosts, "a", False)
        assert not await request(hosts, "a", False)
        start = now()
        assert not await request(hosts, "a", False)
        assert await request(hosts, "a", True)
        assert 0.1 <= now() - start < 0.2

    play(scenario)


def test_one_request_probes_and_the_others_wait_for_what_it_finds() -> None:
    async def scenario(hosts: Hosts) -> None:
        await close(hosts)
        start = now()
        probes = await asyncio.gather(*(request(hosts, "a", True, 0.05) for _ in range(4)))
        assert sorted(probes) == [False, False, False, True]
        assert 0.2 <= now() - start < 0.4  # the pause, the probe, and then three at once

    play(scenario)


def test_pauses_grow_until_the_host_is_down() -> None:
    async def scenario(hosts: Hosts) -> None:
        await close(hosts)
        start = now()
        assert await request(hosts, "a", False)
        assert await request(hosts, "a", False)
        assert 0.3 <= now() - start < 0.6
        await expect_down(hosts)
        await asyncio.sleep(0.3)
        assert await request(hosts, "a", False)  # one more probe, and down again
        await expect_down(hosts)
        await asyncio.sleep(0.3)
        assert await request(hosts, "a", True)
        assert not await request(hosts, "a", True)

    play(scenario)


def test_all_that_wait_learn_that_the_host_is_down() -> None:
    async def scenario(hosts: Hosts) -> None:
        await close(hosts)
        ends = await asyncio.gather(
            *(request(hosts, "a", False) for _ in range(30)), return_exceptions=True
        )
        assert [end for end in ends if end is True] == [True, True]
        reasons = [end.reason for end in ends if isinstance(end, FetchError)]
        assert reasons == ["host_down"] * 28

    play(scenario)


def test_an_answer_to_an_earlier_request_opens_the_gate() -> None:
    async def scenario(hosts: Hosts) -> None:
        earlier = asyncio.create_task(request(hosts, "a", True, 0.02))
        await close(hosts)
        start = now()
        assert not await request(hosts, "a", True)
        assert now() - start < 0.1
        await earlier

    play(scenario)


def test_failures_of_earlier_requests_are_no_probes() -> None:
    async def scenario(hosts: Hosts) -> None:
        earlier = [asyncio.create_task(request(hosts, "a", False, 0.02)) for _ in range(3)]
        await close(hosts)
        await asyncio.gather(*earlier)
        start = now()
        assert await request(hosts, "a", True)
        assert now() - start < 0.2

    play(scenario)


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_probe_that_finds_nothing_out_leaves_it_to_the_next(cancelled: bool) -> None:
    async def scenario(hosts: Hosts) -> None:
        await close(hosts)
        probe = asyncio.create_task(request(hosts, "a", None, 5.0 if cancelled else 0.01))
        await asyncio.sleep(0.15)
        if cancelled:
            probe.cancel()
        assert await request(hosts, "a", True)
        await asyncio.gather(probe, return_exceptions=True)

    play(scenario)


def test_other_hosts_pass_while_one_is_left_alone() -> None:
    async def scenario(hosts: Hosts) -> None:
        await close(hosts)
        waiting = [asyncio.create_task(request(hosts, "a", True)) for _ in range(100)]
        start = now()
        await asyncio.gather(*(request(hosts, "b", True) for _ in range(100)))
        assert now() - start < 0.1
        await asyncio.gather(*waiting)

    play(scenario, connections=4)


def test_a_gate_that_closes_while_a_request_waits_for_a_connection_holds_it_back() -> None:
    async def scenario(hosts: Hosts) -> None:
        async with hosts.turn("b"):  # the only connection
            held = asyncio.create_task(request(hosts, "a", False))
            others = [asyncio.create_task(request(hosts, "a", False)) for _ in range(3)]
            await asyncio.sleep(0.01)
        probes = await asyncio.gather(held, *others)
        assert probes == [False, False, False, True]

    play(scenario, connections=1)


def test_it_is_an_outage_when_nothing_has_answered_meanwhile() -> None:
    async def scenario(hosts: Hosts) -> None:
        assert await request(hosts, "b", True) is False
        await asyncio.sleep(0.01)
        await close(hosts)
        assert hosts.outage == ""
        for _ in QUICK.pauses:
            await request(hosts, "a", False)
        assert hosts.outage.startswith("a has not answered for ")
        await request(hosts, "b", True)
        assert hosts.outage == ""

    play(scenario)


def test_a_host_that_is_down_is_no_outage_while_another_answers() -> None:
    async def scenario(hosts: Hosts) -> None:
        await close(hosts)
        await request(hosts, "b", True)
        for _ in QUICK.pauses:
            await request(hosts, "a", False)
        await expect_down(hosts)
        assert hosts.outage == ""

    play(scenario)


def test_waits_between_attempts_double_up_to_a_limit() -> None:
    patience = Patience(backoff=0.5, max_backoff=10)
    for attempt, limit in enumerate([0.5, 1, 2, 4, 8, 10, 10], start=1):
        waits = [patience.between(attempt) for _ in range(500)]
        assert 0 <= min(waits) < limit / 4
        assert limit * 3 / 4 < max(waits) <= limit


MOMENT = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"Retry-After": "5"}, 5),
        ({"Retry-After": " 1000000000 "}, 1e9),
        ({"Retry-After": "-5"}, 0),
        ({"Retry-After": "1.5"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "\u0665"}, 0),
        ({"Retry-After": MOMENT}, 0),
        ({"Retry-After": "Wed, 99 Oct 2015 07:28:00 GMT"}, 0),
        ({"Retry-After": MOMENT, "Date": "Wed, 21 Oct 2015 07:27:53 GMT"}, 7),
        ({"Retry-After": MOMENT, "Date": "Wed, 21 Oct 2015 09:28:00 +0200"}, 0),
        ({"Retry-After": MOMENT, "Date": "today"}, 0),
    ],
)
def test_a_host_may_ask_for_a_wait(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers) == seconds


def test_a_wait_until_a_moment_is_counted_from_now() -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert retry_after({"Retry-After": moment}) == pytest.approx(3600, abs=5)


@pytest.mark.parametrize(
    ("tags", "left_out"),
    [
        ([], False),
        (["noindex, nofollow"], False),
        (["noai"], True),
        (["NoAI, noimageai"], True),
        (["noindex", "noimageai"], True),
        (["all, noai"], True),
        (["otherbot: noai"], False),
        (["otherbot: noindex, noai"], False),
        (["us: noai"], True),
        (["otherbot: noindex, us: noai"], True),
        (["max-image-preview: large, noai"], True),
        (["noaim"], False),
    ],
)
def test_images_are_left_out_as_their_host_asks(tags: list[str], left_out: bool) -> None:
    try:
        check_robots(tags, ["noai", "noimageai"], "us")
        found = ""
    except FetchError as error:
        found = error.reason
    assert found == ("robots" if left_out else "")


def test_rows_of_a_dead_host_fail_soon_and_by_few_requests() -> None:
    async def main(site: Site) -> None:
        dead = f"http://127.0.0.1:{closed_port()}"
        async with session(per_host=8) as entered:
            addresses = [f"{dead}/{n}" for n in range(200)] + [site / "picture"] * 50
            found = await fetch_all(entered, addresses)
            assert found[200:] == [IMAGE] * 50
            assert set(found[:200]) <= {"connection", "host_down"}
            assert found.count("host_down") >= 185
            assert entered.requests < 50 + 20

    with hostile() as site:
        asyncio.run(main(site))


def test_when_nothing_answers_the_session_tells_of_an_outage() -> None:
    async def main(site: Site) -> None:
        port = closed_port()
        async with session(attempts=10) as entered:
            await entered.fetch(site / "picture")
            assert entered.outage == ""
            await fetch_all(entered, [f"http://127.0.0.1:{port}/{n}" for n in range(20)])
            assert entered.outage.startswith(f"127.0.0.1:{port} has not answered for ")

    with hostile() as site:
        asyncio.run(main(site))


def test_a_name_service_that_is_gone_is_an_outage() -> None:
    async def main() -> None:
        names = Answers(shop_test=[OSError(socket.EAI_AGAIN, "try again later")])
        async with session(names, attempts=10) as entered:
            found = await fetch_all(entered, [f"http://shop.test/{n}" for n in range(50)])
            assert found == ["host_down"] * 50
            assert entered.outage.startswith("shop.test:80 has not answered")

    asyncio.run(main())


def test_hosts_that_nobody_waits_for_are_forgotten_and_others_are_not() -> None:
    async def main() -> tuple[int, list[str]]:
        hosts = Hosts(64, 1, Patience(failures=1, pauses=(), down=60))
        order: list[str] = []

        async def ask(word: str, until: asyncio.Event) -> None:
            async with hosts.turn("busy.test:80"):
                order.append(word)
                await until.wait()

        first, second = asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(ask("first", first))]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(ask("second", second)))
        for number in range(3 * MAX_HOSTS):
            async with hosts.turn(f"shop-{number}.test:80") as turn:
                turn.failed()
        assert order == ["first"]  # one request at a time, however many hosts came between
        first.set(), second.set()
        await asyncio.gather(*tasks)
        with pytest.raises(FetchError, match="host_down"):
            async with hosts.turn(f"shop-{3 * MAX_HOSTS - 1}.test:80"):
                """Never here: it is remembered."""
        return len(hosts._hosts), order

    n_hosts, order = asyncio.run(main())
    assert order == ["first", "second"]
    assert MAX_HOSTS <= n_hosts <= 2 * MAX_HOSTS
