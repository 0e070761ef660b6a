"""What a waiting task logs while the API cannot be asked: a line when that begins, and a line when it is over."""

from __future__ import annotations

import msgspec

from airflow_provider_mistral_batch.policies.progress import rounded

#: Least seconds between the line about one outage's end and the line about the next one's beginning.
QUIET_SECONDS = 60.0


class Outage(msgspec.Struct):
    """
    Turns failed and successful looks into log lines: two for an outage, however many looks fail in it.

    A server that fails every other time has many short outages. Those that end within a minute of the last line stay
    unsaid.
    """

    _since: float | None = None
    _is_said: bool = False
    _said_at: float = float("-inf")

    def failed(self, error: object, now: float) -> str | None:
        """
        Note a look that failed for a cause that may pass.

        :param error: What went wrong, as a sentence.
        :param now: Seconds of a monotonic clock.
        :return: The line to log; ``None`` if this outage has one, or if the last line is too recent.
        """
        if self._since is None:
            self._since = now
        if self._is_said or now - self._said_at < QUIET_SECONDS:
            return None
        self._is_said, self._said_at = True, now
        return f"{error} The task keeps looking, and says here when the API answers again."

    def over(self, now: float) -> str | None:
        """
        Note a look that succeeded.

        :param now: Seconds of a monotonic clock.
        :return: The line to log; ``None`` if there is nothing to end.
        """
        since, self._since = self._since, None
        if since is None or not self._is_said:
            return None
        self._is_said, self._said_at = False, now
        return f"The API answers again, after {rounded(now - since)}."
