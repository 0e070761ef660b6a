"""Which request rows are acceptable, and how an accepted row is written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import repeat
from typing import Annotated, Any, Literal

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE, lone_surrogate
from airflow_provider_mistral_batch.api.endpoints import CONVERSATIONS
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.requests.encoding import encoded
from airflow_provider_mistral_batch.jsonl.requests.fast_path import FastPath, Message
from airflow_provider_mistral_batch.jsonl.requests.nesting import MAX_LEVELS, is_too_deep
from airflow_provider_mistral_batch.jsonl.requests.problems import Problem, shortened
from airflow_provider_mistral_batch.jsonl.requests.prompt_rows import PromptRows
from airflow_provider_mistral_batch.jsonl.requests.template import COMPLETION_ARGS, RowTemplate

_FIELDS = ("custom_id", "method", "url", "body", "prompt")
_SHAPE = (
    'A row is {"custom_id": …, "body": {…}}, or {"custom_id": …, "prompt": "…"}; all else belongs in body'
)

# A row that somebody meant for us, even if it is not JSON.
_OUR_ROW = re.compile(rb'\s*\{.*"(custom_id|body)"\s*:', re.DOTALL)

_PLAIN_NAME = re.compile(r"[a-z_]{1,40}")

_BYTE = re.compile(r" \(byte (\d+)\)$")

_NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class BodyHead(msgspec.Struct, gc=False):
    """The fields of a body that matter for the whole batch. The others are only checked to be JSON."""

    model: str | None = None
    agent_id: str | None = None


class Row(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Any acceptable row. The bytes of its body stay as they came."""

    body: msgspec.Raw
    custom_id: _NonEmpty | None = None
    method: Literal["POST"] | None = None
    url: str | None = None


class _PlainRow(msgspec.Struct, gc=False):
    custom_id: str
    body: msgspec.Raw


class _RowWithUrl(msgspec.Struct, gc=False):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


_decode_row = msgspec.json.Decoder(Row).decode
_decode_head = msgspec.json.Decoder(BodyHead).decode
_decode_heads = msgspec.json.Decoder(BodyHead).decode_lines
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_messages = msgspec.json.Decoder(list[Message]).decode
_encoder = msgspec.json.Encoder()


class RowRules:
    """
    The rules that every row of a batch must meet.

    :param endpoint: The job's endpoint.
    :param with_url: Whether the API wants ``method`` and ``url`` in each row; otherwise, rows that have them keep them.
    :param template: Parameters for bodies that lack them, fitted to the endpoint.
    :param max_row_bytes: Most bytes in one row.
    :raises InvalidInputError: If no body may have one of the parameters.
    """

    def __init__(self, *, endpoint: str, with_url: bool, template: RowTemplate, max_row_bytes: int) -> None:
        self._endpoint = endpoint
        self._with_url = with_url
        self._max_row_bytes = max_row_bytes
        defaults = template.defaults()
        # Bodies that have a part of these get the others.
        partial: Any = defaults.get(COMPLETION_ARGS) if endpoint == CONVERSATIONS else None
        self._system: bytes | None = None
        self._default_model = defaults.get("model")
        self._default_agent = defaults.get("agent_id")
        self._defaults = {name: self._encoded_default(name, value) for name, value in defaults.items()}
        self._arguments = {
            name: self._encoded_default(name, value) for name, value in (partial or {}).items()
        }
        if template.system is not None:
            self._encoded_default("system", template.system)
            self._system = _encoder.encode(template.system_message())
        #: Makes rows with a body of rows with a prompt.
        self.prompts = PromptRows(template, endpoint)
        #: To be tried first: a block that it does not accept may be acceptable all the same.
        self.fast_path = FastPath(
            endpoint=endpoint,
            with_url=with_url,
            defaults=self._defaults,
            default_model=self._default_model,
            default_agent=self._default_agent,
            system=self._system,
            partial=None if partial is None else COMPLETION_ARGS,
        )

    def acceptable(self, lines: list[bytes]) -> tuple[list[Row], list[BodyHead]] | None:
        """
        Decode rows, and find the model and the agent of each.

        :param lines: The rows.
        :return: None if any of them is not acceptable.
        """
        try:
            rows = list(map(_decode_row, lines))
            # No line holds a newline, so no body does.
            heads = list(map(self._with_defaults, _decode_heads(b"\n".join([row.body for row in rows]))))
            if self._system is not None:
                for row in rows:
                    _decode_messages(_decode_fields(row.body)["messages"])
        except (*UNREADABLE, KeyError):
            return None
        if {row.url for row in rows} - {None, self._endpoint}:
            return None
        return rows, heads

    def diagnose(self, line: bytes) -> tuple[Row, BodyHead] | list[Problem]:
        """
        Decode one row and find its model and agent, or find everything that is wrong with it.

        :param line: The row.
        """
        if len(line) > self._max_row_bytes:
            return [self.too_long()]
        try:
            line.decode()
        except UnicodeDecodeError as error:
            return [
                Problem(
                    f"byte 0x{line[error.start]:02x} is not UTF-8",
                    "Save the file in UTF-8",
                    byte=error.start + 1,
                    value=shortened(line[max(0, error.start - 20) : error.start + 10]),
                )
            ]
        if is_too_deep(line):
            return [_nested_too_deeply(line)]
        try:
            fields = _decode_fields(line)
        except msgspec.ValidationError:
            return [Problem("the row is not an object", _SHAPE, value=shortened(line))]
        except UNREADABLE as error:
            return [_malformed(line, error)]
        problems = self._field_problems(fields)
        if problems:
            return problems
        try:
            if "prompt" in fields:
                line = self.prompts.with_body(line)
        except UNREADABLE as error:
            return [_malformed(line, error)]
        try:
            row = _decode_row(line)
            return row, self._with_defaults(_decode_head(row.body))
        except UNREADABLE as error:
            return [Problem(f"the row is not acceptable: {error}", _SHAPE, value=shortened(line))]

    def too_long(self, added: str = "") -> Problem:
        """
        Make the problem of a row that is too long.

        :param added: Why it became so, if it was not before.
        """
        return Problem(
            f"the row has more than {self._max_row_bytes:,} bytes{added}",
            "Shorten it, or refer to documents by URL instead of embedding them",
        )

    def encode(self, rows: list[Row], ids: list[str]) -> bytes:
        """
        Write rows as the API takes them.

        :param rows: The rows.
        :param ids: The id of each.
        :return: Their bytes, joined by newlines.
        """
        is_complete = not self._defaults and self._system is None
        bodies = [row.body if is_complete else self._completed(row.body) for row in rows]
        encoded: list[Any]
        if self._with_url:
            encoded = list(map(_RowWithUrl, ids, repeat("POST"), repeat(self._endpoint), bodies))
        else:
            encoded = [
                _PlainRow(id_, body)
                if row.method is None and row.url is None
                else _RowWithUrl(id_, "POST", self._endpoint, body)
                for id_, row, body in zip(ids, rows, bodies, strict=True)
            ]
        # It must be a list: msgspec 0.22 leaks the items of any other iterable.
        return _encoder.encode_lines(encoded)[:-1]

    def _encoded_default(self, name: str, value: Any) -> bytes:
        """Write a parameter as a field of a body. Its value must be one that a row's own body could have."""
        row = encoded({"body": {name: value}})
        if isinstance(row, Problem):
            problem = row
        elif isinstance(verdict := self.diagnose(row), list):
            problem = verdict[0]
        else:
            return row[len(b'{"body":{') : -len(b"}}")]
        field = (problem.field or name).removeprefix("body.")
        raise InvalidInputError(str(replace(problem, byte=None, field=field, value=shortened(value))))

    def _with_defaults(self, head: BodyHead) -> BodyHead:
        agent = head.agent_id or self._default_agent
        # A request of an agent gets no model.
        return BodyHead(head.model or (None if agent else self._default_model), agent)

    def _completed(self, body: msgspec.Raw) -> msgspec.Raw:
        """Add what a body lacks."""
        fields = _decode_fields(body)
        lacking = {name: default for name, default in self._defaults.items() if name not in fields}
        changed: dict[str, msgspec.Raw] = {}
        if self._default_model is not None:
            head = _decode_head(body)
            if head.agent_id or self._default_agent:
                lacking.pop("model", None)
            elif head.model is None and "model" in fields:
                changed["model"] = msgspec.Raw(_encoder.encode(self._default_model))
        if self._system is not None:
            messages = _decode_messages(fields["messages"])
            if all(message.role != "system" for message in messages):
                changed["messages"] = _with_first(b"[", [self._system], fields["messages"], bool(messages))
        if self._arguments and COMPLETION_ARGS in fields:
            own = bytes(fields[COMPLETION_ARGS])
            if own.startswith(b"{"):
                names = _decode_fields(own)
                added = [argument for name, argument in self._arguments.items() if name not in names]
                changed[COMPLETION_ARGS] = _with_first(b"{", added, own, bool(names))
        if changed:
            body = msgspec.Raw(_encoder.encode({**fields, **changed}))
        return _with_first(b"{", lacking.values(), body, bool(fields))

    def _field_problems(self, fields: dict[str, msgspec.Raw]) -> list[Problem]:
        problems = [
            Problem("unknown field", _SHAPE, field=shortened(name)[1:-1], value=shortened(bytes(value)))
            for name, value in fields.items()
            if name not in _FIELDS
        ][:3]
        if "prompt" in fields:
            problems += _prompt_problems(fields["prompt"], has_body="body" in fields)
        elif "body" not in fields:
            problems.append(Problem("missing", _SHAPE, field="body"))
        if "body" in fields:
            problems += _body_problems(fields["body"], with_messages=self._system is not None)
        custom_id = _value(fields, "custom_id")
        if custom_id is not None and not (isinstance(custom_id, str) and custom_id):
            problems.append(
                Problem(
                    "must be a string that is not empty",
                    "Put it in quotes" if custom_id != "" else "Leave it out to have the rows numbered",
                    field="custom_id",
                    value=shortened(custom_id),
                )
            )
        method = _value(fields, "method")
        if method not in (None, "POST"):
            problems.append(Problem("must be POST", "", field="method", value=shortened(method)))
        url = _value(fields, "url")
        if url not in (None, self._endpoint):
            problems.append(
                Problem(
                    f"the job's endpoint is {self._endpoint}",
                    "All requests of a job go to one endpoint: change the row, or the endpoint",
                    field="url",
                    value=shortened(url),
                )
            )
        return problems


def without_foreign_content(problem: Problem, line: bytes) -> Problem:
    """
    Take the content out of a problem unless it is that of a request row.

    A path may name any file that the worker can read, and messages go to people who may not read that file.

    :param problem: A problem of a line of a file.
    :param line: The line.
    """
    if _OUR_ROW.match(line):
        return problem
    field = problem.field if problem.field and _PLAIN_NAME.fullmatch(problem.field) else None
    return replace(problem, field=field, value=None)


def _value(fields: dict[str, msgspec.Raw], name: str) -> Any:
    if name not in fields:
        return None
    try:
        return msgspec.json.decode(fields[name])
    except UNREADABLE:
        return bytes(fields[name])


def _with_first(opening: bytes, items: Iterable[bytes], value: Any, has_more: bool) -> msgspec.Raw:
    """
    Put items before those that a JSON array or object has.

    :param opening: Its bracket.
    :param items: The items as JSON; a field of an object with its name.
    :param value: The array or object.
    :param has_more: Whether it has items of its own.
    """
    joined = b",".join(items)
    if not joined:
        return msgspec.Raw(bytes(value))
    return msgspec.Raw(opening + joined + (b"," if has_more else b"") + bytes(value).lstrip()[1:])


def _prompt_problems(raw: msgspec.Raw, *, has_body: bool) -> list[Problem]:
    prompt = bytes(raw).strip()
    if has_body:
        remedy = "Leave one of them out: the prompt becomes a body, and a body has its own"
        return [Problem("the row has a body, too", remedy, field="prompt", value=shortened(prompt))]
    if not prompt.startswith(b'"'):
        return [
            Problem(
                "must be a text",
                "Put messages and the like into body",
                field="prompt",
                value=shortened(prompt),
            )
        ]
    return []


def _body_problems(raw: msgspec.Raw, *, with_messages: bool) -> list[Problem]:
    body = bytes(raw).strip()
    if not body.startswith(b"{"):
        return [Problem("must be an object", _SHAPE, field="body", value=shortened(body))]
    fields = _decode_fields(body)
    problems = [
        Problem("must be a string", remedy, field=f"body.{name}", value=shortened(value))
        for name, remedy in (("model", "Name one model"), ("agent_id", "Name one agent"))
        if not isinstance(value := _value(fields, name), str | None)
    ]
    if with_messages:
        try:
            _decode_messages(fields.get("messages", b"null"))
        except UNREADABLE:
            problems.append(
                Problem(
                    "must be a list of messages, since system goes before them"
                    if "messages" in fields
                    else "missing, and system goes before them",
                    "Correct it, or leave system out",
                    field="body.messages",
                    value=shortened(bytes(fields["messages"])) if "messages" in fields else None,
                )
            )
    return problems


def _nested_too_deeply(line: bytes) -> Problem:
    return Problem("nested too deeply to be read", f"Nest {MAX_LEVELS} levels at most", value=shortened(line))


def _malformed(line: bytes, error: Exception) -> Problem:
    if isinstance(error, RecursionError):
        return _nested_too_deeply(line)
    if (half := lone_surrogate(line)) is not None:
        return Problem(
            f"the escape {line[half : half + 6].decode()} is half a character (a lone surrogate), and UTF-8 has none",
            "Write the whole character, or leave it out",
            byte=half + 1,
            value=shortened(line[max(0, half - 20) : half + 20]),
        )
    text = str(error).removeprefix("JSON is malformed: ")
    found = _BYTE.search(text)
    if not found:
        reason = "it ends too early" if "truncated" in text else text
        return Problem(f"not JSON: {reason}", "Write one JSON object a line", value=shortened(line))
    byte = int(found.group(1))
    reason = text[: found.start()]
    remedy = "Write one JSON object a line"
    # msgspec points at what follows.
    if reason == "trailing characters":
        return Problem("more than one JSON value", remedy, byte=byte, value=shortened(line))
    if reason.startswith("trailing comma"):
        byte = line.rfind(b",", 0, byte)
    elif line[byte : byte + 1] == b"\0":
        reason = "a NUL byte"
        remedy = "The file may be cut or damaged: write it again"
    elif re.match(rb"-?(NaN|Inf|nan|inf)", line[max(0, byte - 1) : byte + 4]) or re.match(
        rb"(NaN|Inf|nan|inf)", line[byte : byte + 4]
    ):
        reason = "NaN and Infinity are not JSON"
        remedy = "Write null or leave the field out"
    return Problem(
        f"not JSON: {reason}", remedy, byte=byte + 1, value=shortened(line[max(0, byte - 20) : byte + 20])
    )
