"""What a task, and a poll loop, log about an API that does not answer."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.policies.outage import QUIET_SECONDS, Outage


@pytest.mark.parametrize(
    ("looks", "lines"),
    [
        # Each look: when, and whether it failed. Each line: when, and how it begins.
        ([(0, False), (5, False)], []),
        ([(0, True)], [(0, "no answer.")]),
        ([(0, True), *((at, True) for at in range(2, 7200, 2))], [(0, "no answer.")]),
        ([(0, True), (720, False)], [(0, "no answer."), (720, "The API answers again, after 12 min.")]),
        # Two outages, far from each other.
        (
            [(0, True), (9, False), (900, True), (905, False)],
            [(0, "no"), (9, "The API answers again, after 9 s"), (900, "no"), (905, "The API")],
        ),
        # A server that fails every other time.
        (
            [(at, at % 2 == 0) for at in range(130)],
            [(0, "no"), (1, "The"), (62, "no"), (63, "The"), (124, "no"), (125, "The")],
        ),
        # The second outage follows at once, and is one to tell of only when it lasts.
        (
            [(0, True), (1, False), (5, True), (30, True), (61, True), (125, False)],
            [(0, "no"), (1, "The"), (61, "no"), (125, "The API answers again, after 2 min")],
        ),
    ],
)
def test_two_lines_for_an_outage(looks: list[tuple[int, bool]], lines: list[tuple[int, str]]) -> None:
    assert QUIET_SECONDS == 60
    outage = Outage()
    said = [
        (at, line)
        for at, failed in looks
        if (line := outage.failed("no answer.", at) if failed else outage.over(at)) is not None
    ]
    assert [at for at, _ in said] == [at for at, _ in lines]
    assert [
        line for (_, line), (_, start) in zip(said, lines, strict=True) if not line.startswith(start)
    ] == []


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        ([(0, True), *((at, True) for at in range(2, 200, 2)), (200, False)], [0, 60, 120, 180, 200]),
        ([(at, at % 2 == 0) for at in range(130)], [0, 1, 62, 63, 124, 125]),
    ],
    ids=["one long outage", "every other look fails"],
)
def test_a_loop_says_it_once_a_minute_and_at_the_end(looks: list[tuple[int, bool]], said: list[int]) -> None:
    outage = Outage(repeats=True)
    assert [at for at, failed in looks if (outage.is_to_be_said(at) if failed else outage.over(at))] == said
