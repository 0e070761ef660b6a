"""One final outcome for each request after all rounds: its answer, or else its last failure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import filterfalse
from typing import Any

from airflow_provider_mistral_batch.jsonl.results.invalid_answers import InvalidAnswers
from airflow_provider_mistral_batch.jsonl.results.placeholder_rows import is_missing_row
from airflow_provider_mistral_batch.jsonl.results.reader import read_blocks
from airflow_provider_mistral_batch.jsonl.results.split import OutputFormat, ResultsSummary, split_results
from airflow_provider_mistral_batch.storage.paths import StoragePath


def merge_rounds(
    rounds: Sequence[Mapping[str, Any]],
    results_path: StoragePath | str,
    errors_path: StoragePath | str,
    *,
    requests: Iterable[StoragePath | str] | None,
    output_format: OutputFormat = "jsonl",
    without_secrets: Callable[[str], str] = str,
) -> ResultsSummary:
    """
    Merge the files of several rounds into one pair: each request has its answer, or else its last failure.

    An answer that was not acceptable is paid for. It stays if its request was asked again in vain: its error then says
    both.

    :param rounds: ``ResultsSummary.as_dict()`` of each round, in their order.
    :param results_path: Where the rows that succeeded go.
    :param errors_path: Where all other rows go.
    :param requests: The request files of the first round, which has every request; None if they are gone. Then only
        the requests are known that have a row in some round.
    :param output_format: ``jsonl`` or ``parquet``.
    :param without_secrets: Removes secrets from what the summary says of rows.
    :return: Counts of the final outcomes; ``usage`` is the sum of all rounds, since all of them are paid for.
    """
    latest_first = list(reversed(rounds))
    with InvalidAnswers() as invalid:
        for number, one in enumerate(rounds):
            for lines in read_blocks(one["errors_path"]):
                invalid.extend(number, lines)
        streams = [_stream(one["results_path"]) for one in latest_first]
        for number, one in reversed(list(enumerate(rounds))):
            streams.append(_stream(one["errors_path"], partial(_failures, invalid, number)))
        # Last, for a row of an earlier round says more about a request than its missing row of a later one.
        streams += [_stream(one["errors_path"], _missing) for one in latest_first]
        merged = split_results(
            streams,
            results_path,
            errors_path,
            requests=requests,
            output_format=output_format,
            without_secrets=without_secrets,
        )
    usage: dict[str, int | float] = {}
    for one in rounds:
        for name, amount in one["usage"].items():
            usage[name] = usage.get(name, 0) + amount
    # A row of an earlier round that a later one replaced is not a duplicate: only the API makes those.
    duplicates = sum(one["counts"]["duplicates"] for one in rounds)
    return replace(merged, usage=usage, counts={**merged.counts, "duplicates": duplicates})


def _stream(
    path: StoragePath | str, choose: Callable[[list[bytes]], Iterable[bytes]] = list
) -> Iterator[bytes]:
    for lines in read_blocks(path):
        yield b"".join([line + b"\n" for line in choose(lines)])


def _failures(invalid: InvalidAnswers, number: int, lines: list[bytes]) -> Iterator[bytes]:
    return invalid.kept(number, list(filterfalse(is_missing_row, lines)))


def _missing(lines: list[bytes]) -> Iterator[bytes]:
    return filter(is_missing_row, lines)
