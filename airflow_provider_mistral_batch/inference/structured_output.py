"""Structured output: how to request it from the API, which answers match the schema, and how to ask again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_mistral_batch.api.endpoints import CHAT
from airflow_provider_mistral_batch.api.errors import InvalidInputError

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.jsonl.results.rows import ResultRow

#: How many problems of one answer its error names.
_PROBLEMS_SHOWN = 3
_MAX_REASON_LENGTH = 500

#: What an answer was cut at and what helps, by ``finish_reason``.
_CUTS = {
    "length": ("max_tokens", "increase max_tokens"),
    "model_length": ("the longest context of the model", "shorten the request"),
}

#: Begin the reason if the answer was cut, or if the check itself failed. Such a request is not asked again.
_CUT_OFF = "the answer was cut off at "
_UNCHECKED = "cannot be checked: "


class StructuredOutput:
    """
    The schema that each answer must match.

    :param response_model: A pydantic model class, or a JSON schema as a dict.
    :param endpoint: The job's endpoint.
    :raises InvalidInputError: When the model is neither, the schema is invalid or has a reference that leads nowhere,
        or the endpoint has no structured output.
    """

    def __init__(self, response_model: Any, endpoint: str) -> None:
        if endpoint != CHAT:
            raise InvalidInputError(
                f"response_model: {endpoint} has no structured output, only {CHAT} has: leave response_model out"
            )
        if isinstance(response_model, Mapping):
            self.schema = dict(response_model)
            name = str(self.schema.get("title") or "answer")
            self._problem = _schema_checker(self.schema)
        elif isinstance(response_model, type) and hasattr(response_model, "model_json_schema"):
            self.schema = closed_schema(response_model.model_json_schema())
            name = response_model.__name__
            self._problem = _model_checker(response_model)
        else:
            raise InvalidInputError(
                f"response_model={response_model!r:.100} is neither a pydantic model class nor a JSON schema as a "
                "dict: pass one of them"
            )
        self.name = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]

    @property
    def response_format(self) -> dict[str, Any]:
        """The ``response_format`` of a request body."""
        return response_format_of(self.name, self.schema)

    def check(self, row: ResultRow) -> str | None:
        """
        Say what is wrong with an answer.

        :param row: A row that succeeded.
        :return: The reason, or ``None`` if the answer matches.
        """
        try:
            reason = _without_text(row) if row.content is None else self._problem_of(row.content)
        except RecursionError:
            # Each Python names another place, and gives up at another level.
            reason = f"{_UNCHECKED}RecursionError: the answer is nested too deeply for this schema"
        except Exception as error:
            # The user's validator failed, or the library on an odd answer. All other answers are paid and must land.
            reason = f"{_UNCHECKED}{type(error).__name__}: {error}"
        if reason is None:
            return None
        if cut := _CUTS.get(row.finish_reason or ""):
            at, remedy = cut
            return f"{_CUT_OFF}{at} ({_cut(reason)}): {remedy}"
        return _cut(reason)

    def _problem_of(self, text: str) -> str | None:
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.jsonl.requests.nesting import MAX_LEVELS, is_too_deep

        if is_too_deep(text.encode("utf-8", "replace")):
            return f"it is not JSON of at most {MAX_LEVELS} levels"
        return self._problem(text)

    @staticmethod
    def may_be_asked_again(reason: str) -> bool:
        """
        Tell whether asking again for an invalid answer may help.

        It does not if the answer was cut: the next one would be cut at the same place, and is paid for, too. Nor if the
        check failed: if the check is at fault, the whole batch would be paid for again.

        :param reason: What :meth:`check` returned.
        """
        return not reason.startswith((_CUT_OFF, _UNCHECKED))

    def reask(self, body: Mapping[str, Any], failed: ResultRow) -> dict[str, Any] | None:
        """
        Make the request that asks again: the same conversation, the answer, and what is wrong with it.

        :param body: The request's body.
        :param failed: The row whose answer did not match.
        :return: The next body; ``None`` if asking again does not help.
        """
        messages = body.get("messages")
        if not isinstance(messages, list) or not self.may_be_asked_again(failed.error or ""):
            return None
        correction = (
            f"Your answer does not match the JSON schema {self.name!r}: {failed.error}. "
            "Answer again with JSON that matches it, and with nothing else."
        )
        again = {
            **body,
            "messages": [*_answered(messages, failed.content), {"role": "user", "content": correction}],
        }
        if body.get("stop") and not _is_json(failed.content):
            # One of these texts may have cut the answer, and would cut the next one.
            del again["stop"]
        if body.get("tools") and not failed.content:
            # The model called tools, which nobody runs in a batch.
            again["tool_choice"] = "none"
        return again


def _without_text(row: ResultRow) -> str:
    return (
        "the answer calls tools and has no text"
        if row.finish_reason == "tool_calls"
        else "the answer has no text"
    )


def _answered(messages: list[Any], answer: str | None) -> list[Any]:
    """
    Give a conversation with its answer.

    :param messages: The conversation. If its last message is the beginning of the answer (``prefix``), that is no
        message of its own any more: the API takes a prefix only as the last message.
    :param answer: The answer's text, which begins with the prefix, or goes on where it ends.
    """
    # Imported late: parsing a Dag needs none of it.
    from airflow_provider_mistral_batch.jsonl.results.rows import text_of

    text = answer or ""
    last = messages[-1] if messages else None
    if isinstance(last, Mapping) and last.get("role") == "assistant":
        messages = messages[:-1]
        begun = text_of(last.get("content")) or ""
        text = text if text.startswith(begun) else begun + text
    return [*messages, *([{"role": "assistant", "content": text}] if text else [])]


def _is_json(text: str | None) -> bool:
    try:
        msgspec.json.decode(text or "")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True


def _model_checker(model: Any) -> Callable[[str], str | None]:
    import pydantic

    def problem(text: str) -> str | None:
        try:
            model.model_validate_json(text)
        except pydantic.ValidationError as error:
            errors = error.errors(include_url=False, include_context=False, include_input=False)
            return _listed([(one["loc"], one["msg"]) for one in errors])
        return None

    return problem


def _schema_checker(schema: dict[str, Any]) -> Callable[[str], str | None]:
    import jsonschema
    from jsonschema_specifications import REGISTRY

    validator_class = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        validator_class.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InvalidInputError(
            f"response_model is not a valid JSON schema ({error.message}): correct the schema, or pass a "
            "pydantic model class"
        ) from None
    _check_references(schema, REGISTRY)
    # Without a registry of ours, the library would fetch referenced documents from the network.
    validator = validator_class(schema, registry=REGISTRY)

    def problem(text: str) -> str | None:
        try:
            value = msgspec.json.decode(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            return f"it is not JSON: {error}"
        errors = [(tuple(one.absolute_path), one.message) for one in validator.iter_errors(value)]
        return _listed(errors) if errors else None

    return problem


def _check_references(schema: dict[str, Any], registry: Any) -> None:
    """
    Follow all references of a schema, so that we do not pay for answers that cannot be checked.

    :param schema: The schema.
    :param registry: Other documents that the schema may refer to.
    :raises InvalidInputError: If a reference leads nowhere.
    """
    from referencing.jsonschema import DRAFT202012, specification_with

    specification = specification_with(schema.get("$schema", ""), default=DRAFT202012)
    seen: set[int] = set()

    def follow(resource: Any, resolver: Any) -> None:
        contents = resource.contents
        if not isinstance(contents, Mapping) or id(contents) in seen:
            return
        seen.add(id(contents))
        for keyword in ("$ref", "$dynamicRef"):
            if keyword in contents:
                try:
                    target = resolver.lookup(contents[keyword])
                except Exception:
                    raise InvalidInputError(
                        f"response_model: {keyword} {contents[keyword]!r:.200} names nothing in the schema, and "
                        "other documents are not fetched: put the definition into $defs"
                    ) from None
                follow(specification.create_resource(target.contents), target.resolver)
        for part in resource.subresources():
            # In older drafts, some subresources are lists.
            if isinstance(part.contents, Mapping):
                follow(part, resolver.in_subresource(part))

    root = specification.create_resource(schema)
    follow(root, registry.resolver_with_root(root))


def _listed(errors: list[tuple[Any, str]]) -> str:
    shown = [
        f"{'.'.join(map(str, location))}: {message}" if location else message
        for location, message in errors[:_PROBLEMS_SHOWN]
    ]
    more = len(errors) - _PROBLEMS_SHOWN
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")


def response_format_of(name: str, schema: Any) -> dict[str, Any]:
    """
    Give the ``response_format`` of a request body whose answer must match a schema.

    :param name: The schema's name: letters, digits, ``_`` and ``-``, at most 64.
    :param schema: The JSON schema.
    """
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


def closed_schema(schema: Any) -> Any:
    """
    Forbid fields that a schema does not name, as the API's strict mode requires.

    :param schema: The JSON schema of a model.
    """
    if isinstance(schema, list):
        return [closed_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        key: value if key in ("default", "const", "enum", "examples") else closed_schema(value)
        for key, value in schema.items()
    }
    if closed.get("type") == "object" and isinstance(closed.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed


def _cut(text: str) -> str:
    # A validator's message may contain a lone surrogate, which the row's UTF-8 cannot hold.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _MAX_REASON_LENGTH else f"{text[:_MAX_REASON_LENGTH]}…"
