"""What the routes share: the store, the settings, the keys, the fault rules and the way to wake the engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BeforeValidator

from airflow_provider_mistral_batch.emulator.http.auth import Caller, Keys
from airflow_provider_mistral_batch.emulator.state.counters import Counters
from airflow_provider_mistral_batch.emulator.state.faults import JobRules, Rules
from airflow_provider_mistral_batch.emulator.state.settings import Settings
from airflow_provider_mistral_batch.emulator.state.store import Store


@dataclass
class State:
    """The server's state in memory; all that must outlive it is in the store."""

    store: Store
    keys: Keys
    settings: Settings
    wake_engine: Callable[[], None]
    rules: Rules = field(default_factory=Rules)
    job_rules: JobRules = field(default_factory=JobRules)
    counters: Counters = field(default_factory=Counters)

    def wall(self) -> float:
        """Epoch seconds by the emulator's own, possibly skewed clock, to the microsecond as in a date-time."""
        return round(time.time() + self.settings.clock_skew, 6)

    def cancel_due(self) -> float:
        """The job time at which a cancellation that is requested now is done."""
        return self.store.clock().now(time.time()) + self.settings.cancel_seconds

    def change_settings(self, changes: dict[str, Any]) -> Settings:
        """Change some settings.

        :raises pydantic.ValidationError: if one is unknown or out of bounds; then none is changed.
        """
        self.settings = Settings.model_validate({**self.settings.model_dump(), **changes})
        self.store.put_settings(self.settings, time.time())
        self.wake_engine()
        return self.settings


def get_state(request: Request) -> State:
    """The state of the server that has the request."""
    state: State = request.app.state.emulator
    return state


async def get_caller(request: Request) -> Caller:
    """Who sent the request.

    :raises ApiError: 401.
    """
    return get_state(request).keys.caller(request.headers.get("authorization"))


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


TheState = Annotated[State, Depends(get_state)]
TheCaller = Annotated[Caller, Depends(get_caller)]
#: Clients send optional parameters that are not set as empty ones.
NoneIfEmpty = BeforeValidator(_none_if_empty)
