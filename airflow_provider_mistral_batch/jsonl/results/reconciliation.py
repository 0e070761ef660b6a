"""Result rows against requests: which are answered, repeated, unknown or missing."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_mistral_batch.jsonl.custom_ids import CustomIds


@dataclass(frozen=True)
class Accounts:
    """
    Rows against requests.

    :param total: Requests; if they are not known, ids that have a row.
    :param absent: A flag for each request, set if it has no row; empty if all have one.
    :param repeated: A flag for each row, set if another row of its id counts; empty if there is none.
    :param strange: A flag for each row, set if nobody asked for it; empty if there is none.
    """

    total: int
    absent: bytes | bytearray = b""
    repeated: bytes | bytearray = b""
    strange: bytes | bytearray = b""

    @property
    def duplicates(self) -> int:
        """Rows that are dropped. A strange row is kept, however often its id comes."""
        if not self.repeated:
            return 0
        strange = self.strange or bytes(len(self.repeated))
        return sum(again > odd for again, odd in zip(self.repeated, strange, strict=True))


def account(answered: CustomIds, failures: bytes | bytearray, asked: CustomIds | None) -> Accounts:
    """
    Compare the ids of rows with those of requests.

    Of several rows with one id the first counts, an answer before a failure.

    :param answered: The rows' ids.
    :param failures: A flag for each row, set if it failed.
    :param asked: The requests' ids; None if they are not known.
    """
    if asked is None:
        repeated = answered.repeated(failures)
        return Accounts(len(answered) - repeated.count(1), repeated=_if_any(repeated))
    strange, absent = answered.unshared(asked)
    if len(answered) == len(asked) and 1 not in strange and 1 not in absent:
        return Accounts(len(asked))
    return Accounts(
        len(asked),
        absent=_if_any(absent),
        repeated=_if_any(answered.repeated(failures)),
        strange=_if_any(strange),
    )


def _if_any(flags: bytearray) -> bytes | bytearray:
    return flags if 1 in flags else b""
