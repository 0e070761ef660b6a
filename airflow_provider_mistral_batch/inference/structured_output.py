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

#: What an answer was cut at, by ``finish_reason``.
_CUTS = {"length": "max_tokens", "model_length": "the longest context of the model"}

#: Begins the reason if the check itself failed.
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
            self.schema = _closed(response_model.model_json_schema())
            name = response_model.__name__
            self._problem = _model_checker(response_model)
        else:
            raise InvalidInputError(
                f"response_model={response_model!r:.100} is neither a pydantic model class nor a JSON schema as a dict"
            )
        self.name = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]

    @property
    def response_format(self) -> dict[str, Any]:
        """The ``response_format`` of a request body."""
        return {
            "type": "json_schema",
            "json_schema": {"name": self.name, "schema": self.schema, "strict": True},
        }

    def check(self, row: ResultRow) -> str | None:
        """
        Say what is wrong with an answer.

        :param row: A row that succeeded.
        :return: The reason, or ``None`` if the answer matches.
        """
        try:
            reason = "the answer has no text" if row.content is None else self._problem(row.content)
        except Exception as error:
            # The user's validator failed, or the library on an odd answer. All other answers are paid and must land.
            reason = f"{_UNCHECKED}{type(error).__name__}: {error}"
        if reason is not None and (cut := _CUTS.get(row.finish_reason or "")):
            reason = f"the answer was cut off at {cut}; {reason}"
        return None if reason is None else _cut(reason)

    def reask(self, body: Mapping[str, Any], failed: ResultRow) -> dict[str, Any] | None:
        """
        Make the request that asks again: the same conversation, the answer, and what is wrong with it.

        :param body: The request's body.
        :param failed: The row whose answer did not match.
        :return: The next body; ``None`` if there is no reason to ask again. That includes an answer whose check failed:
            if the check is at fault, the whole batch would be paid for again.
        """
        messages = body.get("messages")
        if not isinstance(messages, list) or _UNCHECKED in (failed.error or ""):
            return None
        correction = (
            f"Your answer does not match the JSON schema {self.name!r}: {failed.error}. "
            "Answer again with JSON that matches it, and with nothing else."
        )
        answer = [{"role": "assistant", "content": failed.content}] if failed.content else []
        return {**body, "messages": [*messages, *answer, {"role": "user", "content": correction}]}


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
        raise InvalidInputError(f"response_model is not a JSON schema: {error.message}") from None
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


def _closed(schema: Any) -> Any:
    """Forbid fields that the schema does not name, as the API's strict mode requires."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        key: value if key in ("default", "const", "enum", "examples") else _closed(value)
        for key, value in schema.items()
    }
    if closed.get("type") == "object" and isinstance(closed.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed


def _cut(text: str) -> str:
    # A validator's message may contain a lone surrogate, which the row's UTF-8 cannot hold.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _MAX_REASON_LENGTH else f"{text[:_MAX_REASON_LENGTH]}…"
