"""A download that can resume: which bytes to ask for next, and whether an answer continues the same file."""

from __future__ import annotations

import re
from collections.abc import Mapping

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.errors import MistralConnectionError, MistralResponseError
from airflow_provider_mistral_batch.api.transport import announced_length, is_encoded

#: Breaks in a row, each after fewer bytes than these, after which a download is given up.
_MAX_BREAKS, _LITTLE_BYTES = 5, 1 << 16

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-\d+/(\d{1,19}|\*)")


class Download:
    """
    What is known of a file while it is downloaded, so that bytes of two versions of it never mix.

    :param operation: Method and path of the call, for messages.
    """

    def __init__(self, operation: str) -> None:
        self.operation = operation
        #: Bytes that the caller has received.
        self.given = 0
        #: Whether to ask the server for the missing bytes only.
        self.by_range = True
        #: Size of the file in bytes, once the server has said it.
        self.length: int | None = None
        #: Whether the answer's end cannot be told from a broken connection.
        self.ends_unmarked = False
        self._etag: str | None = None
        self._given_at_break = 0
        self._breaks = 0

    def request_headers(self) -> dict[str, str]:
        """Headers that ask for the missing bytes."""
        # Lengths and ranges count the bytes of the file only where they travel unencoded.
        headers = {"Accept-Encoding": "identity"}
        if self.given and self.by_range:
            headers["Range"] = f"bytes={self.given}-"
            # The standard allows no weak tag in If-Range.
            if self._etag is not None and not self._etag.startswith("W/"):
                headers["If-Range"] = self._etag
        return headers

    def begin(self, status_code: int, headers: Mapping[str, str]) -> int:
        """
        Check the head of an answer.

        :param status_code: Its status, 2xx.
        :param headers: Its headers.
        :return: Bytes at the start of its body to skip, since the caller has them.
        :raises MistralResponseError: When it does not answer the request, or the file has changed.
        """
        encoded = is_encoded(headers)
        whole = None if encoded else announced_length(headers)
        if status_code == 206:
            content_range = _CONTENT_RANGE.match(headers.get("Content-Range", ""))
            if content_range is None or int(content_range[1]) != self.given or encoded:
                # The next attempt reads from the start.
                self.by_range = False
                raise MistralResponseError(
                    f"{self.operation} asked for the bytes from {self.given} on and was answered with the range "
                    f"{headers.get('Content-Range')!r:.100}.",
                    operation=self.operation,
                )
            whole = int(content_range[2]) if content_range[2] != "*" else None
        elif status_code != 200 or headers.get("Content-Type", "").startswith("text/html"):
            raise MistralResponseError(
                f"{self.operation} was answered with {status_code} and the content type "
                f"{headers.get('Content-Type')!r:.100} instead of a file: check whether a proxy answers in place of "
                "the API",
                operation=self.operation,
            )
        etag = headers.get("ETag")
        for before, now in ((self._etag, etag), (self.length, whole)):
            if self.given and before is not None and now is not None and before != now:
                raise self._changed()
        self._etag = etag or self._etag
        self.length = self.length if whole is None else whole
        self.by_range = self.by_range and not encoded
        self.ends_unmarked = (
            announced_length(headers) is None and headers.get("Transfer-Encoding", "").lower() != "chunked"
        )
        return 0 if status_code == 206 else self.given

    def took(self, count: int) -> None:
        """
        Note new bytes that the caller is about to receive.

        :param count: How many.
        :raises MistralResponseError: When there are more than the file has, or than any file has.
        """
        self.given += count
        if self.length is not None and self.given > self.length:
            raise self._changed()
        if self.given > limits.MAX_DOWNLOAD_BYTES:
            error = MistralResponseError(
                f"{self.operation} has no end: more than {limits.MAX_DOWNLOAD_BYTES:,} bytes came, and no result file "
                "is as large: check what answers in place of the API",
                operation=self.operation,
            )
            error.transient = False
            raise error

    def broke(self) -> int:
        """
        Note that an answer ended before the file did.

        :return: Breaks in a row that brought little, this one included; at least 1.
        :raises MistralConnectionError: When there were too many of them.
        """
        brought, self._given_at_break = self.given - self._given_at_break, self.given
        self._breaks = self._breaks + 1 if brought < _LITTLE_BYTES else 0
        if self._breaks >= _MAX_BREAKS:
            raise MistralConnectionError(
                f"{self.operation} broke off {self._breaks} times in a row and brought next to nothing in between: "
                f"given up after {self.given} bytes.",
                operation=self.operation,
            )
        return max(1, self._breaks)

    def end(self, to_skip: int) -> None:
        """
        Check that the file ends where the body ended.

        :param to_skip: Bytes that were to be skipped but did not come again.
        :raises MistralConnectionError: When bytes are missing.
        :raises MistralResponseError: When the file has changed.
        """
        if to_skip or (self.length is not None and self.given > self.length):
            raise self._changed()
        if self.length is not None and self.given < self.length:
            raise MistralConnectionError(
                f"{self.operation} ended after {self.given} of {self.length} bytes.", operation=self.operation
            )

    def _changed(self) -> MistralResponseError:
        error = MistralResponseError(
            f"{self.operation}: the file changed while it was downloaded, after {self.given} bytes: download it again",
            operation=self.operation,
        )
        error.transient = False
        return error
