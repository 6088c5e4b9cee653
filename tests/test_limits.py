"""Limits against servers that take no time (`servers.py`): minutes of traffic in virtual seconds, no wall clock."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.errors import CallFailed, Refused, UsageError
from gristmill.models.knee import Knee, Level
from gristmill.models.limits import Limits
from gristmill.models.protocol import Completion, Request
from gristmill.models.retries import ATTEMPTS, REJECTED_ATTEMPTS, Limited
from tests.servers import (
    ANSWER,
    REQUEST,
    Server,
    Trace,
    at_once,
    batching,
    lasting,
    now,
    queueing,
    refusing,
    traffic,
    tried,
)

FAULTS = {"rate_limited": 0.05, "server": 0.03, "hang": 0.01}
SERVERS = [(8, 0.2), (64, 0.05), (64, 0.2), (64, 2.0), (200, 0.2), (300, 0.2), (300, 2.0), (700, 0.2)]
"""Calls that are served at once, seconds each."""
CHANCE = 4
"""Seeds of each server."""


class Scripted:
    """Answers the n-th call, counted for each sample, with what `script(sample, n)` gives: seconds, or an error."""

    name = identity = "scripted"

    def __init__(self, script: Callable[[int, int], Any]):
        self.script, self.sent = script, list[int]()

    async def complete(self, request: Request) -> Completion:
        self.sent.append(request.sample)
        result = self.script(request.sample, self.sent.count(request.sample))
        if isinstance(result, Exception):
            await asyncio.sleep(0.01)
            raise result
        await asyncio.sleep(result)
        return ANSWER

    async def close(self) -> None:
        pass


def ask(script: Callable[[int, int], Any], count: int, **limits: Any) -> tuple[list[int], list[Any], float]:
    """The samples in the order in which they were sent, what became of each, and the seconds it took."""

    async def run() -> tuple[list[int], list[Any], float]:
        inner = Scripted(script)
        model = Limited(inner, Limits(clock=now, **limits))
        calls = [model.complete(Request(REQUEST.messages, {}, None, sample)) for sample in range(count)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        return inner.sent, found, now()

    return at_once(run())


def fails(kind: str, again: bool = True, after: float | None = None) -> CallFailed:
    return CallFailed(kind, "no", again=again, after=after)


# Retries


@pytest.mark.parametrize("kind", ["too_long", "content_filter", "bad_request", "invalid"])
def test_what_no_other_attempt_would_change_is_sent_once(kind: str) -> None:
    sent, (error,), _ = ask(lambda *_: fails(kind, again=False), 1)
    assert sent == [0] and str(error) == f"{kind}: no"


@pytest.mark.parametrize(
    ("kind", "attempts"),
    [("server", ATTEMPTS), ("timeout", ATTEMPTS), ("bad_answer", ATTEMPTS), ("rate_limited", REJECTED_ATTEMPTS)],
)
def test_attempts_are_bounded_and_told(kind: str, attempts: int) -> None:
    """Others are answered meanwhile, so that the endpoint does not count as gone."""

    def script(sample: int, _: int) -> Any:
        return fails(kind) if sample == 0 else 0.1

    async def run() -> tuple[int, BaseException]:
        inner = Scripted(script)
        model = Limited(inner, Limits(clock=now, concurrency=64))

        async def others() -> None:
            while True:
                await model.complete(Request(REQUEST.messages, {}, None, 1))

        busy = asyncio.ensure_future(others())
        with pytest.raises(CallFailed) as error:
            await model.complete(REQUEST)
        busy.cancel()
        return inner.sent.count(0), error.value

    sent, error = at_once(run())
    assert sent == attempts and str(error) == f"{kind}: no (after {attempts} attempts)"


def test_a_failure_that_passes_is_not_seen() -> None:
    _, found, _ = ask(lambda sample, n: fails("server") if n <= sample else 0.1, 5)
    assert found == [ANSWER] * 5


def test_a_connection_that_the_server_closed_is_tried_again_at_once_two_times() -> None:
    _, found, seconds = ask(lambda _, n: fails("disconnected") if n < 3 else 0.1, 1)
    assert found == [ANSWER] and seconds < 0.2
    _, found, seconds = ask(lambda _, n: fails("disconnected") if n < 4 else 0.1, 1)
    assert found == [ANSWER] and seconds > 0.5


def test_fresh_calls_go_on_while_another_waits_to_be_sent_again() -> None:
    def script(sample: int, n: int) -> Any:
        return fails("rate_limited", after=7) if (sample, n) == (0, 1) else 0.1

    sent, found, seconds = ask(script, 5, concurrency=1)
    assert sent == [0, 1, 2, 3, 4, 0] and found == [ANSWER] * 5 and 7 <= seconds < 7 * 1.25 + 1


def test_what_ends_every_call_ends_those_that_wait_as_well() -> None:
    def script(sample: int, _: int) -> Any:
        return UsageError("no such key") if sample == 5 else fails("server", after=1000) if sample < 3 else 0.1

    sent, found, seconds = ask(script, 300, concurrency=4)
    assert seconds < 2 and len(sent) < 20
    assert {type(each) for each in found} == {Completion, UsageError}


# Slots


@given(
    limit=st.integers(1, 8),
    calls=st.lists(st.tuples(st.floats(0.01, 0.4), st.none() | st.floats(0, 1)), max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_slots_are_given_in_order_and_none_is_lost_when_calls_are_cancelled(
    limit: int, calls: list[tuple[float, float | None]]
) -> None:
    async def run() -> tuple[list[int], Limits, int]:
        limits, order, most = Limits(clock=now, concurrency=limit), list[int](), 0

        async def call(number: int, seconds: float) -> None:
            nonlocal most
            ticket = await limits.acquire()
            try:
                order.append(number)
                most = max(most, limits.in_flight)
                await asyncio.sleep(seconds)
            finally:
                limits.release(ticket)

        tasks = [asyncio.ensure_future(call(number, seconds)) for number, (seconds, _) in enumerate(calls)]
        for task, (_, cancelled) in zip(tasks, calls, strict=True):
            if cancelled is not None:
                asyncio.get_running_loop().call_later(cancelled, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        return order, limits, most

    order, limits, most = at_once(run())
    assert order == sorted(order) and most <= limit
    assert limits.in_flight == 0 and limits.told()["waiting"] == 0


def test_a_slot_that_is_given_as_its_call_is_cancelled_goes_to_the_next() -> None:
    async def run() -> bool:
        limits = Limits(clock=now, concurrency=1)
        ticket = await limits.acquire()
        second, third = (asyncio.ensure_future(limits.acquire()) for _ in range(2))
        await asyncio.sleep(0)
        limits.release(ticket)
        second.cancel()
        await asyncio.sleep(1)
        return third.done() and limits.in_flight == 1

    assert at_once(run())


def test_a_call_that_hangs_lends_its_slot_once_it_is_known_how_long_calls_take() -> None:
    def script(sample: int, _: int) -> float:
        return 500.0 if sample in (0, 4) else 0.1

    sent, _, seconds = ask(script, 9, concurrency=1)
    assert sent == list(range(9)) and seconds >= 1000  # the first hung alone
    _, _, seconds = ask(lambda sample, _: 500.0 if sample == 4 else 0.1, 9, concurrency=1)
    assert seconds == pytest.approx(500.4)


def test_no_more_slots_are_lent_than_there_are() -> None:
    server = batching(1e9, 0.2, fails={"hang": 0.2}, timeout=1000)
    tried(server, 30, concurrency=10)
    assert server.most_air == 20


# Rates


def test_requests_a_minute_hold() -> None:
    trace = tried(batching(1e9, 0.2), 60, requests_per_minute=600)
    assert trace.answered[-1] == pytest.approx(600, abs=15)
    assert max(b - a for a, b in zip(trace.answered, trace.answered[10:], strict=False)) <= 21


def test_tokens_a_minute_hold() -> None:
    """Calls take 200 tokens. Before the first answer nobody knows, so what is sent until then is paid back."""
    trace = tried(batching(1e9, 0.2), 120, tokens_per_minute=60_000)
    assert trace.answered[-1] == pytest.approx(2 * 300, rel=0.1)


def test_nothing_is_held_back_unless_asked() -> None:
    assert tried(batching(1e9, 0.2), 5, concurrency=1000).rate(1) == pytest.approx(5000, rel=0.05)


# Finding the knee


@pytest.mark.parametrize("sigma", [0.0, 0.6])
@pytest.mark.parametrize(("slots", "seconds"), SERVERS)
def test_a_server_that_queues_is_filled_and_not_flooded(slots: int, seconds: float, sigma: float) -> None:
    """15 s, or as many latencies, to come within 20 % of the best rate; concurrency twice as long later."""
    within = max(15.0, 15 * seconds)
    found = []
    for seed in range(CHANCE if sigma and slots < 300 else 1):
        trace = tried(queueing(slots, seconds, sigma, seed=seed), 2 * within)
        assert trace.rate(within) >= 0.8 * slots / seconds
        found.append(trace.limit[-1] / slots)
    assert sum(0.8 <= each <= 1.7 for each in found) >= 0.75 * len(found)
    assert max(found) <= 4


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize(("slots", "seconds"), SERVERS)
def test_where_calls_are_turned_away_is_found(slots: int, seconds: float, quick: bool) -> None:
    """Or after as long as an answer takes."""
    within = max(15.0, 15 * seconds)
    trace = tried(refusing(slots, seconds, 0.6, says_no=0.01 if quick else seconds, seed=1), 2 * within)
    assert trace.rate(within) >= 0.8 * slots / seconds
    assert trace.limit[-1] <= 1.4 * slots
    assert trace.rejected_share(within) <= (0.3 if slots == 8 else 0.06 if quick else 0.2)


@pytest.mark.parametrize("half", [64, 128, 300])
def test_a_server_that_batches_is_filled(half: int) -> None:
    best = 1024 / (0.2 * (1 + 1024 / half))
    for seed in range(CHANCE):
        assert tried(batching(half, 0.2, 0.6, seed=seed), 30).rate(15) >= 0.8 * best


@pytest.mark.parametrize("turns_away", [False, True])
@pytest.mark.parametrize(("before", "after"), [(300, 100), (100, 300), (300, 30), (30, 300)])
def test_a_change_of_capacity_is_followed(before: int, after: int, turns_away: bool) -> None:
    server = Server(lasting(0.2, 0.6), lambda at: before if at < 20 else after, turns_away)
    trace = tried(server, 80)
    assert trace.rate(60) >= 0.8 * after / 0.2
    assert trace.limit[-1] <= 3 * after


def test_a_source_that_starves_teaches_nothing() -> None:
    chance = random.Random(3)
    trace = tried(queueing(64, 0.2, 0.6), 30, workers=40, source=lambda: chance.expovariate(5))
    assert trace.limit[-1] == 32 and trace.rate(5) == pytest.approx(100, rel=0.1)


def test_a_given_number_is_held_from_the_start_and_comes_back() -> None:
    trace = tried(batching(1e9, 0.2, 0.6), 5, concurrency=500)
    assert set(trace.limit) == {500}
    server = Server(lasting(0.2, 0.6), lambda at: 1000 if at < 5 or at > 10 else 100, turns_away=True)
    trace = tried(server, 60, concurrency=500)
    assert min(trace.limit) <= 120 and trace.limit[-1] == 500


# Faults


@pytest.mark.parametrize("concurrency", [200, None])
@pytest.mark.parametrize(("seconds", "timeout"), [(0.2, 3.0), (0.2, 10.0), (2.0, 60.0)])
def test_faults_that_have_nothing_to_do_with_load_cost_little(
    seconds: float, timeout: float, concurrency: int | None
) -> None:
    server = batching(1e9, seconds, 0.6, fails=FAULTS, timeout=timeout, seed=2)
    trace = tried(server, 60 * max(1, seconds), concurrency=concurrency, most=256)
    assert trace.rate(30 * max(1, seconds)) >= 0.7 * (concurrency or 256) / seconds
    assert not trace.failed


@pytest.mark.parametrize("after", [5.0, None])
def test_a_small_quota_is_used_and_not_hammered(after: float | None) -> None:
    """One request a second is taken, whatever is in the air."""

    class Quota(Server):
        free = 0.0

        async def complete(self, request: Request) -> Completion:
            if now() < self.free:
                self.sent += 1
                raise fails("rate_limited", after=after)
            self.free = now() + 1
            return await super().complete(request)

    server = Quota(lasting(0.3))
    trace = tried(server, 120)
    assert trace.answered[-1] >= 20 and server.sent <= 32 + 5 * trace.answered[-1]


@pytest.mark.parametrize(
    ("kind", "concurrency", "most"),
    [("server", None, 90), ("server", 1, 300), ("server", 200, 90), ("rate_limited", None, 330), ("hang", None, 250)],
)
def test_an_endpoint_that_answers_nothing_any_more_ends_every_call(
    kind: str, concurrency: int | None, most: float
) -> None:
    """It answered for 10 s. Hangs time out after 100 s."""

    class Gone(Server):
        async def complete(self, request: Request) -> Completion:
            self.fails = {kind: 1.0} if now() > 10 else {}
            return await super().complete(request)

    async def run() -> tuple[float, list[Any]]:
        model = Limited(Gone(lasting(0.2), timeout=100.0), Limits(clock=now, concurrency=concurrency))

        async def caller() -> None:
            while True:
                await model.complete(REQUEST)

        ended = await asyncio.gather(*[caller() for _ in range(500)], return_exceptions=True)
        return now(), ended

    seconds, ended = at_once(run())
    assert seconds <= most + 10
    assert {type(each) for each in ended} == {Refused} and len({str(each) for each in ended}) == 1
    assert "calls in a row failed, none answered for" in str(ended[0]) and "start again when it is back" in str(
        ended[0]
    )


@pytest.mark.parametrize("poisoned", [1, 20, 50, 200])
def test_calls_that_fail_whatever_is_done_end_with_a_reason_and_do_not_end_the_others(poisoned: int) -> None:
    """1,000 calls, of which some always meet a 500 (a prompt that the chat template cannot take): they come last."""
    _, found, seconds = ask(
        lambda sample, _: fails("server") if sample % (1000 // poisoned) == 7 % (1000 // poisoned) else 0.2, 1000
    )
    assert sum(isinstance(each, Completion) for each in found) == 1000 - poisoned
    assert all(str(each).startswith("server: no (after") for each in found if each is not ANSWER)
    assert seconds < 150


def test_429_for_two_minutes_are_waited_out() -> None:
    class Out(Server):
        async def complete(self, request: Request) -> Completion:
            self.fails = {"rate_limited": 1.0} if 10 < now() < 130 else {}
            return await super().complete(request)

    server = Out(lasting(0.2))
    trace = tried(server, 300, concurrency=50)
    assert trace.rate(250) == pytest.approx(250, rel=0.05) and not trace.failed


def test_the_clock_of_what_is_gone_begins_with_the_first_failure() -> None:
    """Limits that lay idle for an hour meet a minute's trouble like any others."""

    async def run() -> Trace:
        limits = Limits(clock=now)
        await asyncio.sleep(3600)
        began = now()

        class Slow(Server):
            async def complete(self, request: Request) -> Completion:
                self.fails = {"server": 1.0} if now() < began + 20 else {}
                return await super().complete(request)

        return await traffic(Slow(lasting(0.2)), limits, 3600 + 60, workers=100)

    assert at_once(run()).answered[-1] > 1000


# The rule alone


@given(
    st.integers(1, 2000), st.lists(st.tuples(st.booleans(), st.floats(0.01, 1e4), st.floats(0.001, 100)), max_size=60)
)
@settings(max_examples=200, deadline=None)
def test_the_limit_stays_within_its_bounds_whatever_is_measured(
    most: int, steps: list[tuple[bool, float, float]]
) -> None:
    knee, at = Knee(min(32, most), most), 0.0
    for passed, rate, latency in steps:
        at += latency
        if passed:
            knee.measured(Level(knee.limit, rate, latency), at)
        else:
            knee.turned_away(at)
        assert 1 <= knee.limit <= most
        assert knee.window() % knee.limit == 0
