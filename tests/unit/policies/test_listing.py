"""How far a poll loop reads a listing."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from airflow_provider_mistral_batch.policies.listing import (
    FAILURES_BEFORE_REST,
    LENGTH_KNOWN_SECONDS,
    REST_SECONDS,
    Listing,
    Reading,
    created_since,
)


def _listing(pages: int | None) -> Listing:
    listing = Listing()
    if pages is not None:
        listing.has_pages(pages, 0.0)
    return listing


@pytest.mark.parametrize(
    ("wanted", "pages", "pays"),
    [
        (0, None, False),
        (1, None, False),
        (2, None, True),
        (0, 1, False),
        (1, 1, False),
        (2, 1, True),
        (3, 500, False),
        (501, 500, True),
        (1000, 10, True),
    ],
)
def test_the_way_that_costs_fewer_calls(wanted, pages, pays):
    assert Reading(_listing(pages), wanted, 0.0).goes_on(wanted, 0.0) is pays


@pytest.mark.parametrize(
    ("wanted", "pages", "calls", "is_complete", "pages_known"),
    [
        # Each page: whether it is the last, how many jobs there are, and how many wanted ones it held.
        (300, [(False, 300, 100), (False, 300, 100), (True, 300, 100)], 3, True, 3),
        # The first page tells that it is not worth it.
        (3, [(False, 5003, 0), (False, 5003, 0)], 1, False, 51),
        # What is left on the last page is cheaper to read by itself.
        (101, [(False, 150, 100), (True, 150, 1)], 1, False, 2),
        # More jobs than a float can hold.
        (5, [(False, 10**400, 0)], 1, False, 10**398),
        # A server that does not tell how many there are: as many pages as there are jobs to read, and no more.
        (3, [(False, None, 0)] * 9, 3, False, 4),
        (3, [(False, None, 0), (True, None, 0)], 2, True, 2),
        # A listing that goes on beyond the length that the server tells.
        (3, [(False, 300, 0)] * 9, 3, False, 4),
        (9, [(False, 1, 0)] * 20, 9, False, 10),
        # All found: no need to go on.
        (3, [(False, None, 3), (False, None, 0)], 1, False, None),
    ],
)
def test_a_reading_ends(wanted, pages, calls, is_complete, pages_known):
    listing = Listing()
    reading = Reading(listing, wanted, 0.0)
    missing, made = wanted, 0
    while reading.goes_on(missing, 0.0):
        is_last, jobs_in_all, found = pages[made]
        made, missing = made + 1, missing - found
        reading.page_came(is_last=is_last, jobs_in_all=jobs_in_all, now=0.0)
    assert (made, reading.is_complete, listing.pages(0.0)) == (calls, is_complete, pages_known)


def test_the_length_is_forgotten_after_a_while():
    listing = _listing(500)
    assert listing.pages(LENGTH_KNOWN_SECONDS - 1) == 500
    assert listing.pages(LENGTH_KNOWN_SECONDS) is None
    assert Reading(listing, 3, LENGTH_KNOWN_SECONDS).goes_on(3, LENGTH_KNOWN_SECONDS)


def test_a_listing_that_fails_again_and_again_rests():
    listing = Listing()
    reading = Reading(listing, 10, 0.0)
    for _ in range(FAILURES_BEFORE_REST - 1):
        listing.failed(0.0)
    # A page between starts the count anew.
    reading.page_came(is_last=False, jobs_in_all=None, now=0.0)
    for _ in range(FAILURES_BEFORE_REST - 1):
        listing.failed(0.0)
        assert listing.is_usable(0.0)
    listing.failed(0.0)
    assert not reading.goes_on(10, REST_SECONDS - 1)
    assert reading.goes_on(10, REST_SECONDS)


def test_a_listing_that_is_refused_is_never_read_again():
    listing = Listing()
    listing.is_refused()
    assert not Reading(listing, 1000, 1e9).goes_on(1000, 1e9)


@pytest.mark.parametrize(
    ("created_at", "seconds"),
    [([], None), ([None], None), ([100, None, 50], None), ([100, 50, 70], 49), ([0, 50], -1)],
)
def test_a_listing_begins_just_before_the_oldest_wanted_job(created_at, seconds):
    expected = None if seconds is None else datetime.fromtimestamp(seconds, tz=timezone.utc)
    assert created_since(created_at) == expected
