"""One pass over a source of requests: each row is accepted, or it is noted what is wrong with it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from airflow_provider_mistral_batch.api.checks import check_choice
from airflow_provider_mistral_batch.api.decoding import is_utf8
from airflow_provider_mistral_batch.api.endpoints import ENDPOINTS
from airflow_provider_mistral_batch.api.errors import InvalidInputError, StorageError
from airflow_provider_mistral_batch.api.regular_files import NotAFileError
from airflow_provider_mistral_batch.jsonl.lines import DamagedFileError, LineBlock
from airflow_provider_mistral_batch.jsonl.requests.fast_path import AcceptedRows
from airflow_provider_mistral_batch.jsonl.requests.nesting import any_too_deep
from airflow_provider_mistral_batch.jsonl.requests.numbering import numbered_id
from airflow_provider_mistral_batch.jsonl.requests.places import Places
from airflow_provider_mistral_batch.jsonl.requests.problems import (
    MAX_PROBLEMS_SHOWN,
    Problem,
    Problems,
    shortened,
)
from airflow_provider_mistral_batch.jsonl.requests.sources import AlikeRequests, open_sources
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate
from airflow_provider_mistral_batch.jsonl.requests.validation import (
    BodyHead,
    Row,
    RowRules,
    without_foreign_content,
)

log = logging.getLogger(__name__)


class RequestReader:
    """
    Reads a source once: gives accepted rows, and keeps what must be known about all of them at its end.

    :param endpoint: The endpoint that the job targets.
    :param with_url: Whether the API wants ``method`` and ``url`` in each row; otherwise, rows that have them keep them.
    :param template: What prompts and bodies have in common.
    :param max_row_bytes: Most bytes in one row.
    :raises InvalidInputError: If one of these is wrong.
    """

    def __init__(self, endpoint: str, *, with_url: bool, template: RowTemplate, max_row_bytes: int) -> None:
        check_choice("endpoint", endpoint, ENDPOINTS)
        template = template.fitted(endpoint)
        self.problems = Problems()
        #: How many rows had no id and were numbered.
        self.numbered = 0
        #: One flag for each accepted row: 1 if it was numbered. Empty if none was.
        self.numbered_rows = bytearray()
        # Where each model is named first.
        self._models: dict[str, str] = {}
        #: The first agent that bodies name, if they name agents.
        self.agent: str | None = None
        # The first row that names an agent, and the first that names none.
        self._with_agent: str | None = None
        self._without_agent: str | None = None
        self._template = template
        self._max_row_bytes = max_row_bytes
        self._rules = RowRules(
            endpoint=endpoint, with_url=with_url, template=template, max_row_bytes=max_row_bytes
        )
        self._places = Places()
        self._rows = 0

    @property
    def model(self) -> str | None:
        """The model that bodies name, if any does."""
        return next(iter(self._models), None)

    def read(self, source: Any) -> Iterator[AcceptedRows]:
        """
        Read everything, in blocks; what is not acceptable becomes a problem.

        :param source: See :func:`~airflow_provider_mistral_batch.jsonl.requests.prepare.prepare_requests`.
        :raises InvalidInputError: If there are no requests, or the source is neither a path nor rows.
        """

        def refuse(line: int, problem: Problem) -> None:
            self._add_problem(problem, line)

        for origin in open_sources(
            source,
            template=self._template,
            max_row_bytes=self._max_row_bytes,
            refuse=refuse,
        ):
            self._places.next_file(origin.name)
            line = 0
            try:
                for block in origin.blocks:
                    line = block.last_line
                    if accepted := self._accept(block):
                        yield accepted
            except DamagedFileError as error:
                reason = str(error)
                self._add_problem(
                    Problem(reason[:1].lower() + reason[1:], "Write or copy it again"), line + 1
                )
            except FileNotFoundError as error:
                if origin.name is None:
                    raise InvalidInputError(
                        f"source: a file is gone since the files were listed ({error}): try again"
                    ) from None
                self._add_problem(Problem("there is no such file", "Check path"), None)
            except IsADirectoryError:
                self._add_problem(_not_a_file("a directory", origin.name), None)
            except NotAFileError as error:
                self._add_problem(_not_a_file(error.kind, origin.name), None)
            except StorageError as error:
                if not error.refused:
                    raise
                if origin.name is None:
                    # Of a table: the error names the file.
                    raise InvalidInputError(str(error)) from None
                self._add_problem(Problem(error.failing), None)
        if not self._rows and not self.problems.total:
            names = self._places.names
            raise InvalidInputError(
                f"path: there are no requests in {', '.join(names)}; a batch needs at least one"
                if names
                else "requests is empty: there are no requests to send; a batch needs at least one"
            )

    def log_numbered(self) -> None:
        """Log how many rows were numbered, if any."""
        if self.numbered:
            log.info("%d of %d requests had no custom_id and were numbered.", self.numbered, self._rows)

    def is_numbered(self, index: int) -> bool:
        """Tell whether an accepted row had no id and was numbered."""
        return index < len(self.numbered_rows) and bool(self.numbered_rows[index])

    def refuse_duplicate(self, custom_id: str, first: int, second: int) -> None:
        """Note that two accepted rows have the same id."""
        first_file, first_line = self._places.of(first)
        file, _ = self._places.of(second)
        names = self._places.names
        unit = "line" if names else "row"
        where = f"{unit} {first_line}" + (f" of {names[first_file - 1]}" if first_file != file else "")
        self.refuse(
            second,
            Problem(
                f"the same as on {where}",
                "Give each row an id of its own" + ("" if names else "; of a table, it is made of the key"),
                field="custom_id",
                value=shortened(custom_id),
            ),
        )

    def refuse(self, index: int, problem: Problem) -> None:
        """Note a problem of an accepted row."""
        file, line = self._places.of(index)
        name = self._places.names[file - 1] if file else None
        self.problems.add(replace(problem, file=name, line=line), position=(file, line))

    def _accept(self, block: LineBlock | AlikeRequests) -> AcceptedRows | None:
        places: Sequence[int] = range(block.first_line, block.last_line + 1)
        if isinstance(block, AlikeRequests):
            if (accepted := self._accept_alike(block)) is not None:
                return self._noted(accepted, places)
            block = block.block
        data, lines = block.data, block.lines
        sound = len(data) <= self._max_row_bytes and is_utf8(data) and not any_too_deep(lines)
        accepted = self._rules.fast_path.accept(data, lines) if sound else None
        if (
            sound
            and accepted is None
            and (filled := self._rules.prompts.with_bodies(data, lines)) is not None
        ):
            lines = filled
            accepted = self._rules.fast_path.accept(b"\n".join(lines), lines)
        if accepted is not None:
            return self._noted(accepted, places)
        rows: list[Row]
        heads: list[BodyHead]
        if sound and (acceptable := self._rules.acceptable(lines)) is not None:
            rows, heads = acceptable
        else:
            rows, heads, places = self._accept_each(block)
            if not rows:
                return None
        ids = self._with_numbers([row.custom_id for row in rows])
        models, agents = [head.model for head in heads], [head.agent_id for head in heads]
        return self._noted(AcceptedRows(ids, models, agents, self._rules.encode(rows, ids)), places)

    def _accept_alike(self, requests: AlikeRequests) -> AcceptedRows | None:
        """Accept requests if the first needs no change and none is too long."""
        first, ids = requests.data.partition(b"\n")[0], requests.ids
        if len(requests.data) > self._max_row_bytes or any_too_deep([first]):
            return None
        accepted = self._rules.fast_path.accept(first, [first])
        if accepted is None or accepted.data != first:
            return None
        return AcceptedRows(ids, accepted.models * len(ids), accepted.agents * len(ids), requests.data)

    def _noted(self, accepted: AcceptedRows, places: Sequence[int]) -> AcceptedRows:
        """Note what has to be known of accepted rows at the end."""
        self._note_models(accepted.models, places)
        self._note_agents(accepted.agents, places)
        self._note_rows(places)
        self._check_length(accepted.data, places)
        return accepted

    def _check_length(self, data: bytes, places: Sequence[int]) -> None:
        """Note rows that are too long with what was added to them."""
        if len(data) > self._max_row_bytes:
            for row, line in zip(data.split(b"\n"), places, strict=True):
                if len(row) > self._max_row_bytes:
                    self._add_problem(self._rules.too_long(" with what is added to it"), line)

    def _accept_each(self, block: LineBlock) -> tuple[list[Row], list[BodyHead], list[int]]:
        rows: list[Row] = []
        heads: list[BodyHead] = []
        places: list[int] = []
        for line_number, line in enumerate(block.lines, block.first_line):
            if not line.strip():
                continue
            verdict = self._rules.diagnose(line)
            if isinstance(verdict, list):
                for problem in verdict:
                    self._add_problem(
                        without_foreign_content(problem, line) if self._places.names else problem, line_number
                    )
            else:
                rows.append(verdict[0])
                heads.append(verdict[1])
                places.append(line_number)
        return rows, heads, places

    def _with_numbers(self, given: list[str | None]) -> list[str]:
        if None not in given:
            return given  # type: ignore[return-value]
        if not self.numbered_rows:
            self.numbered_rows = bytearray(self._rows)
        self.numbered_rows.extend([id_ is None for id_ in given])
        self.numbered += given.count(None)
        return [
            numbered_id(number) if id_ is None else id_ for number, id_ in enumerate(given, self._rows + 1)
        ]

    def _note_rows(self, places: Sequence[int]) -> None:
        self._places.note(self._rows, places)
        self._rows += len(places)
        if self.numbered_rows:
            self.numbered_rows.extend(bytes(self._rows - len(self.numbered_rows)))

    def _note_models(self, models: list[str | None], places: Sequence[int]) -> None:
        for model in dict.fromkeys(models):
            if model is None or model in self._models or len(self._models) == MAX_PROBLEMS_SHOWN:
                continue
            line = places[models.index(model)]
            if self._models:
                known, where = next(iter(self._models.items()))
                self._add_problem(
                    Problem(
                        f"{where} names {shortened(known)}, and a batch job runs one model",
                        "Make one batch for each model",
                        field="body.model",
                        value=shortened(model),
                    ),
                    line,
                )
            self._models[model] = self._places.describe(line)

    def _note_agents(self, agents: list[str | None], places: Sequence[int]) -> None:
        """Note whether rows name agents. In one batch, either all do or none: one job has one model or agent."""
        new: list[int] = []
        if self._with_agent is None and any(agents):
            new.append(next(index for index, agent in enumerate(agents) if agent))
            self.agent = agents[new[-1]]
            self._with_agent = self._places.describe(places[new[-1]])
        if self._without_agent is None and not all(agents):
            new.append(next(index for index, agent in enumerate(agents) if not agent))
            self._without_agent = self._places.describe(places[new[-1]])
        if not new or self._with_agent is None or self._without_agent is None:
            return
        agent = agents[max(new)]
        self._add_problem(
            Problem(
                f"{self._without_agent} names no agent"
                if agent
                else f"missing, but {self._with_agent} names an agent",
                "Name an agent in all requests of a batch or in none",
                field="body.agent_id",
                value=shortened(agent) if agent else None,
            ),
            places[max(new)],
        )

    def _add_problem(self, problem: Problem, line: int | None) -> None:
        """Note a problem of a line of the current file, or of the file itself."""
        file = self._places.names[-1] if self._places.names else None
        self.problems.add(
            replace(problem, file=file, line=line), position=(len(self._places.names), line or 0)
        )


def _not_a_file(kind: str, name: str | None) -> Problem:
    remedy = (
        f"Name its files, such as {name}/*.jsonl" if kind == "a directory" else "Write the requests to a file"
    )
    return Problem(f"this is {kind}, not a file" if kind != "a directory" else "this is a directory", remedy)
