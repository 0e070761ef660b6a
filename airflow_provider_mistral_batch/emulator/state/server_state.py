"""What the server knows while it runs: the store, and what a restart forgets."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_mistral_batch.emulator.state.counters import Counters
from airflow_provider_mistral_batch.emulator.state.faults import FaultRules
from airflow_provider_mistral_batch.emulator.state.keys import Keys
from airflow_provider_mistral_batch.emulator.state.plans import JobRules
from airflow_provider_mistral_batch.emulator.state.settings import Settings
from airflow_provider_mistral_batch.emulator.state.store import Store


@dataclass
class ServerState:
    """
    The state that all routes share.

    :param settings: The settings as the store has them.
    :param wake_engine: Tells the engine that something in the store changed.
    """

    store: Store
    keys: Keys
    settings: Settings
    wake_engine: Callable[[], None]
    fault_rules: FaultRules = field(default_factory=FaultRules)
    job_rules: JobRules = field(default_factory=JobRules)
    counters: Counters = field(default_factory=Counters)

    def wall(self) -> float:
        """Epoch seconds of the emulator's own clock, which the settings can skew; to the microsecond."""
        return round(time.time() + self.settings.clock_skew, 6)

    def job_time(self) -> float:
        """Job time of now, in seconds."""
        return self.store.clock().now(time.time())

    def change_settings(self, changes: dict[str, Any]) -> Settings:
        """
        Change some settings, and store them.

        :param changes: New values by name.
        :return: All settings.
        :raises pydantic.ValidationError: If a setting does not exist or its value is not allowed; then none is changed.
        """
        self.settings = Settings.model_validate({**self.settings.model_dump(), **changes})
        self.store.put_settings(self.settings, time.time())
        self.wake_engine()
        return self.settings
