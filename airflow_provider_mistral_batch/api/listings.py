"""How far a listing is read: one that repeats itself or has no end is given up."""

from __future__ import annotations

from typing import TypeVar

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.dialects.base import Page
from airflow_provider_mistral_batch.api.errors import MistralResponseError
from airflow_provider_mistral_batch.api.models import BatchJobOut, FileOut

Listed = TypeVar("Listed", BatchJobOut, FileOut)


class ListingBounds:
    """
    The pages of one listing, as they come.

    :param server: Whose listing it is, for messages.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._seen: set[str] = set()
        self._pages = 0
        self._repeated_pages = 0

    def page_came(self, page: Page[Listed]) -> list[Listed]:
        """
        Note a page that was read.

        :param page: The page.
        :return: Its items that were on no page before.
        :raises MistralResponseError: When the listing repeats itself.
        """
        new = {item.id: item for item in page.items if item.id not in self._seen}
        self._seen.update(new)
        self._pages += 1
        self._repeated_pages = 0 if new else self._repeated_pages + 1
        if self._repeated_pages == limits.MAX_REPEATED_PAGES:
            raise MistralResponseError(
                f"The listing repeats itself: its last {self._repeated_pages} pages had nothing new after "
                f"{len(self._seen):,} items. Check what is between here and {self._server}"
            )
        return list(new.values())

    def check_goes_on(self) -> None:
        """
        Check that one more page may be read.

        :raises MistralResponseError: When the listing has no end.
        """
        if self._pages >= limits.MAX_PAGES:
            raise MistralResponseError(
                f"The listing has no end: {self._pages:,} pages with {len(self._seen):,} items were read. Narrow it by "
                "a filter, such as created_after"
            )
