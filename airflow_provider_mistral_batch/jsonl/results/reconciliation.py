"""Result rows against requests: which requests have no row, which rows repeat an id, and which nobody asked for."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_mistral_batch.jsonl.custom_ids import CertainIds


@dataclass(frozen=True)
class Reconciliation:
    """
    What the ids of result rows and of requests say when they are compared.

    :param total: Number of requests; if they are not known, number of distinct ids among the rows.
    :param missing: One flag for each request: 1 if it has no row. Empty if every request has one.
    :param repeated: One flag for each row: 1 if another row with its id counts instead. Empty if no id repeats.
    :param unknown: One flag for each row: 1 if nobody asked for its id. Empty if there is no such row.
    """

    total: int
    missing: bytes | bytearray = b""
    repeated: bytes | bytearray = b""
    unknown: bytes | bytearray = b""

    @property
    def duplicates(self) -> int:
        """Number of rows to drop. An unknown row is kept, however often its id repeats."""
        if not self.repeated:
            return 0
        unknown = self.unknown or bytes(len(self.repeated))
        return sum(
            is_repeated > is_unknown for is_repeated, is_unknown in zip(self.repeated, unknown, strict=True)
        )


def reconcile(answered: CertainIds, failures: bytes | bytearray, asked: CertainIds | None) -> Reconciliation:
    """
    Compare the ids of rows with the ids of requests.

    Of several rows with one id the first counts, an answer before a failure.

    :param answered: The rows' ids.
    :param failures: One flag for each row: 1 if it failed.
    :param asked: The requests' ids; None if they are not known.
    """
    if asked is None:
        repeated = answered.repeated(failures)
        return Reconciliation(len(answered) - repeated.count(1), repeated=_if_any(repeated))
    unknown, missing = answered.unshared(asked)
    if len(answered) == len(asked) and 1 not in unknown and 1 not in missing:
        return Reconciliation(len(asked))
    return Reconciliation(
        len(asked),
        missing=_if_any(missing),
        repeated=_if_any(answered.repeated(failures)),
        unknown=_if_any(unknown),
    )


def _if_any(flags: bytearray) -> bytes | bytearray:
    return flags if 1 in flags else b""
