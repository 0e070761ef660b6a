"""From a plain prompt to a request body, for each endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_mistral_batch.api.endpoints import CONVERSATIONS, ENDPOINTS
from airflow_provider_mistral_batch.api.errors import InvalidInputError

#: Where a conversation has its parameters.
COMPLETION_ARGS = "completion_args"

# The parameters that it has there.
_COMPLETION_ARGS = ("max_tokens", "temperature", "response_format")


@dataclass(frozen=True)
class RowTemplate:
    """
    What all requests of a batch have in common.

    A plain prompt becomes a body with all of it. A row with a body of its own gets what its body lacks; what it has
    stays.

    :param system: System message before all others (chat completions) or ``instructions`` (conversations).
    :param model: Model for each body. Leave it out when the job names the model.
    :param max_tokens: Most tokens that an answer may have.
    :param temperature: Sampling temperature.
    :param response_format: As in the API's chat completions, for example ``{"type": "json_object"}``.
    :param parameters: Any other fields of the endpoint's body, such as ``{"top_p": 0.9}``.
    """

    system: str | None = None
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    response_format: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def defaults(self) -> dict[str, Any]:
        """Give the fields that a body gets if it lacks them."""
        named = {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "response_format": None if self.response_format is None else dict(self.response_format),
        }
        return {**{name: value for name, value in named.items() if value is not None}, **self.parameters}

    def body(self, prompt: str, endpoint: str) -> dict[str, Any]:
        """
        Make a request body of a prompt.

        :param prompt: The text; for OCR and transcriptions the URL of the document or recording.
        :param endpoint: The job's endpoint.
        """
        fields = ENDPOINTS[endpoint].prompt_fields(prompt)
        if self.system is not None:
            fields["messages"] = [self.system_message(), *fields["messages"]]
        return {**self.defaults(), **fields}

    def system_message(self) -> dict[str, Any]:
        """Give the message that goes before all others of a chat."""
        return {"role": "system", "content": self.system}

    def fitted(self, endpoint: str) -> RowTemplate:
        """
        Check the parameters, and put each where the endpoint reads it.

        :param endpoint: The job's endpoint.
        :raises InvalidInputError: If the endpoint does not take one of them, or one that must be a dict is not.
        """
        _check_mapping("parameters", self.parameters)
        if self.response_format is not None:
            _check_mapping("response_format", self.response_format)
        for name in ("system", "max_tokens", "temperature", "response_format"):
            if (value := getattr(self, name)) is not None and name not in ENDPOINTS[endpoint].takes:
                raise InvalidInputError(
                    f"{name}={value!r:.80}: requests to {endpoint} have no {name}; leave it out"
                )
        if endpoint != CONVERSATIONS:
            return self
        parameters = dict(self.parameters)
        if self.system is not None:
            parameters["instructions"] = self.system
        given = {name: getattr(self, name) for name in _COMPLETION_ARGS if getattr(self, name) is not None}
        if given or COMPLETION_ARGS in parameters:
            others = parameters.get(COMPLETION_ARGS, {})
            _check_mapping(COMPLETION_ARGS, others)
            parameters[COMPLETION_ARGS] = {**others, **given}
        return replace(self, system=None, **dict.fromkeys(_COMPLETION_ARGS), parameters=parameters)


def _check_mapping(name: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidInputError(f"{name}={value!r:.80}: expected a dict whose keys are strings")
