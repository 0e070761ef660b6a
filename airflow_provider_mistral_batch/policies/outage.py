"""What waiting tasks and poll loops log while the API cannot be asked: when that begins, and when it is over."""

from __future__ import annotations

import msgspec

from airflow_provider_mistral_batch.api.texts import sentence
from airflow_provider_mistral_batch.policies.progress import rounded

#: Least seconds between a line about an outage and the next line that something failed.
QUIET_SECONDS = 60.0


class Outage(msgspec.Struct):
    """
    Turns failed and successful looks into log lines: two for an outage, however many looks fail in it.

    A server that fails every other time has many short outages. Those that end within a minute of the last line stay
    unsaid.

    :param repeats: Whether to say again each minute that the outage goes on: in a log that is not one task's own.
    """

    repeats: bool = False
    _since: float | None = None
    _is_said: bool = False
    _said_at: float = float("-inf")

    def is_to_be_said(self, now: float) -> bool:
        """
        Note a look that failed for a cause that may pass, and tell whether to log it.

        :param now: Seconds of a monotonic clock.
        :return: Whether this outage has no line yet, or is to have another; not if the last line is too recent.
        """
        if self._since is None:
            self._since = now
        if (self._is_said and not self.repeats) or now - self._said_at < QUIET_SECONDS:
            return False
        self._is_said, self._said_at = True, now
        return True

    def failed(self, error: object, now: float) -> str | None:
        """
        Note a look of a task that failed for a cause that may pass.

        :param error: What went wrong.
        :param now: Seconds of a monotonic clock.
        :return: The line to log; ``None`` if nothing is to be said.
        """
        if not self.is_to_be_said(now):
            return None
        return f"{sentence(error)} The task keeps looking, and says here when the API answers again."

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
