"""Rounds of requests as an operator runs them, with a script instead of the API."""

from __future__ import annotations

import json

from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests
from airflow_provider_mistral_batch.jsonl.results.merge import merge_rounds
from airflow_provider_mistral_batch.jsonl.results.resubmission import write_resubmission
from airflow_provider_mistral_batch.jsonl.results.split import split_results
from airflow_provider_mistral_batch.results import read_results

CHAT = "/v1/chat/completions"


USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def outcome_line(custom_id, outcome, text="ok"):
    """A result row; outcome: a status code, or "invalid"."""
    good = outcome in (200, "invalid")
    body = (
        {"usage": USAGE, "choices": [{"message": {"content": text}}]}
        if good
        else {"message": f"failed {outcome}"}
    )
    response = {"status_code": 200 if good else outcome, "body": body}
    return json.dumps({"custom_id": custom_id, "response": response, "error": None}).encode() + b"\n"


def check(row):
    return "not acceptable" if row.content == "bad" else None


class Rounds:
    """Runs rounds as an operator does, with a script instead of the API."""

    def __init__(self, folder, ids, with_url=False, output_format="jsonl"):
        self.folder = folder
        self.output_format = output_format
        rows = [{"custom_id": id_, "body": {"messages": [{"role": "user", "content": id_}]}} for id_ in ids]
        prepared = prepare_requests(rows, endpoint=CHAT, directory=folder / "q0", with_url=with_url)
        self.first = self.files = prepared.paths
        self.landed = []

    def run(self, outcomes, reask=None):
        """Land one round's outcomes, by id; ids without one stay missing. Returns the lines of the next round."""
        number = len(self.landed)
        asked = [
            # Some tests have numbers that Python cannot hold.
            json.loads(line, parse_int=str)["custom_id"]
            for path in self.files
            for line in path.read_bytes().splitlines()
        ]
        stream = [
            outcome_line(id_, outcomes[id_], "bad" if outcomes[id_] == "invalid" else f"{id_} in {number}")
            for id_ in reversed(asked)
            if id_ in outcomes
        ]
        self.landed.append(
            split_results(
                [stream],
                self.folder / f"r{number}",
                self.folder / f"e{number}",
                requests=self.files,
                check=check,
                output_format=self.output_format,
            ).as_dict()
        )
        shards = write_resubmission(
            self.files,
            self.folder / f"r{number}",
            self.folder / f"e{number}",
            directory=self.folder / f"q{number + 1}",
            reask=reask,
        )
        self.files = tuple(shard.path for shard in shards)
        lines = [line for path in self.files for line in path.read_bytes().splitlines()]
        assert sum(shard.request_count for shard in shards) == len(lines)
        return lines

    def merge(self):
        summary = merge_rounds(
            self.landed,
            self.folder / "results",
            self.folder / "errors",
            requests=self.first,
            output_format=self.output_format,
        )
        return summary, {row.custom_id: row for row in read_results(summary.as_dict(), failed=True)}
