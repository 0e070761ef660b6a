"""A download that may break and go on: which bytes to ask for next, and whether an answer fits what was given."""

from __future__ import annotations

import re
from collections.abc import Mapping

from airflow_provider_mistral_batch.api.errors import MistralConnectionError, MistralResponseError
from airflow_provider_mistral_batch.api.transport import announced_length, is_encoded

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-\d+/(\d{1,19}|\*)")


class Download:
    """
    What is known of a file on its way to us, so that bytes of two versions of it are never mixed.

    :param operation: Method and path of the call, for messages.
    """

    def __init__(self, operation: str) -> None:
        self.operation = operation
        #: Bytes that were given to the caller.
        self.given = 0
        #: Whether the server may be asked to go on in the middle.
        self.by_range = True
        #: Bytes in all, once the server has said so.
        self.length: int | None = None
        #: Whether nothing in the answer tells its end from a break of the connection.
        self.ends_unmarked = False
        self._etag: str | None = None

    def request_headers(self) -> dict[str, str]:
        """Headers that ask for what is missing."""
        # `identity`: a length can only be checked, and a range resumed, for the bytes as they are.
        headers = {"Accept-Encoding": "identity"}
        if self.given and self.by_range:
            headers["Range"] = f"bytes={self.given}-"
            # The standard has no If-Range for weak tags.
            if self._etag is not None and not self._etag.startswith("W/"):
                headers["If-Range"] = self._etag
        return headers

    def begin(self, status_code: int, headers: Mapping[str, str]) -> int:
        """
        Check the head of an answer.

        :param status_code: Its status, 2xx.
        :param headers: Its headers.
        :return: Bytes of its body that were given already, to be skipped.
        :raises MistralResponseError: When it is no answer to what was asked, or the file is another one by now.
        """
        encoded = is_encoded(headers)
        whole = None if encoded else announced_length(headers)
        if status_code == 206:
            content_range = _CONTENT_RANGE.match(headers.get("Content-Range", ""))
            if content_range is None or int(content_range[1]) != self.given or encoded:
                # The next attempt reads from the start.
                self.by_range = False
                raise MistralResponseError(
                    f"{self.operation} was asked for bytes from {self.given} and answered with "
                    f"{headers.get('Content-Range')!r:.100}.",
                    operation=self.operation,
                )
            whole = int(content_range[2]) if content_range[2] != "*" else None
        elif status_code != 200 or headers.get("Content-Type", "").startswith("text/html"):
            raise MistralResponseError(
                f"{self.operation} was answered with {status_code} and {headers.get('Content-Type')!r:.100}, not with "
                "a file. Is there a proxy that wants something?",
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

    def end(self, to_skip: int) -> None:
        """
        Check, where a body ended, that the file ends there.

        :param to_skip: Bytes that were given before and did not come again.
        :raises MistralConnectionError: When there must be more.
        :raises MistralResponseError: When the file is another one by now.
        """
        if to_skip or (self.length is not None and self.given > self.length):
            raise self._changed()
        if self.length is not None and self.given < self.length:
            raise MistralConnectionError(
                f"{self.operation} ended after {self.given} of {self.length} bytes.", operation=self.operation
            )

    def _changed(self) -> MistralResponseError:
        error = MistralResponseError(
            f"{self.operation}: the file changed while it was downloaded, after {self.given} bytes: download it anew",
            operation=self.operation,
        )
        error.transient = False
        return error
