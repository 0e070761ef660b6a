"""Faults that a test switches on: rules that say which requests suffer what, and which jobs get which plan."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_mistral_batch.emulator.state.plans import JobPlan

Kind = Literal["status", "html", "redirect", "truncate", "alter", "cut", "slow", "hold", "drop"]


class Fault(BaseModel):
    """One rule: requests that match suffer, each with some probability, some number of times."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind = Field(description="what happens, see docs/emulator.md")
    method: str | None = Field(default=None, description="HTTP method that matches; any if not given")
    path: str = Field(default="*", description="path that matches; * stands for anything")
    contains: str | None = Field(
        default=None, description="text that the request's body or query must contain"
    )
    key: str | None = Field(default=None, description="API key that the request must carry")
    skip: int = Field(default=0, ge=0, description="how many matching requests go unharmed first")
    times: int | None = Field(default=1, ge=1, description="how many requests suffer; null: all")
    probability: float = Field(default=1.0, ge=0, le=1, description="how likely each of them does")
    when: Literal["before", "after"] = Field(
        default="before", description="drop, hold: before or after the work is done"
    )
    status: int = Field(default=503, ge=200, le=599, description="status: the answer's status code")
    retry_after: int | str | None = Field(
        default=None, description="status: the header Retry-After, in seconds or as a date"
    )
    message: str = Field(default="A fault that was switched on", description="status: the error's message")
    body: Any = Field(default=None, description="status: a JSON body instead of the API's error body")
    location: str = Field(default="http://elsewhere.invalid", description="redirect: the host to go to")
    fields: dict[str, Any] = Field(
        default={}, description="alter: fields that are set in the answer's JSON object"
    )
    seconds: float | None = Field(
        default=None, ge=0, description="slow, hold: how long; a hold without waits for release"
    )
    bytes: int = Field(default=0, ge=0, description="cut: how many bytes of the answer's body come through")

    def matches(self, method: str, path: str, key: str | None, text: str | None) -> bool:
        """Whether a request is meant.

        :param text: its query and body; ``None`` if they were not read, as nobody needs them.
        """
        return (
            (self.method is None or self.method.upper() == method)
            and fnmatchcase(path, self.path)
            and (self.key is None or self.key == key)
            and (self.contains is None or text is None or self.contains in text)
        )


class ActiveFault:
    """A rule in force, with what it has done so far."""

    def __init__(self, fault_id: str, fault: Fault) -> None:
        self.id = fault_id
        self.fault = fault
        self.hits = 0
        self.held = 0
        self.released = asyncio.Event()
        self._skip = fault.skip

    @property
    def spent(self) -> bool:
        """Whether it will do nothing any more."""
        return self.fault.times is not None and self.hits >= self.fault.times

    def strike(self, chance: float) -> bool:
        """Decide about a request that matches, and count it if it suffers.

        :param chance: a number from 0 to 1.
        """
        if self.spent or chance >= self.fault.probability:
            return False
        if self._skip:
            self._skip -= 1
            return False
        self.hits += 1
        return True

    def as_dict(self) -> dict[str, Any]:
        """What it is and has done, without the key that it waits for."""
        rule = self.fault.model_dump(exclude_defaults=True, exclude={"key"})
        return {"id": self.id, "hits": self.hits, "held": self.held, "spent": self.spent, "rule": rule}


class Rules:
    """The rules in force, oldest first; the first that strikes decides what a request suffers."""

    def __init__(self, chances: random.Random | None = None) -> None:
        self._active: dict[str, ActiveFault] = {}
        self._ids = itertools.count(1)
        self._chances = chances or random.Random(0)

    def add(self, fault: Fault) -> ActiveFault:
        """Switch a rule on."""
        active = ActiveFault(f"fault-{next(self._ids)}", fault)
        self._active[active.id] = active
        return active

    def get(self, fault_id: str) -> ActiveFault | None:
        """The rule of that id."""
        return self._active.get(fault_id)

    def all(self) -> list[ActiveFault]:
        """All rules, spent ones too."""
        return list(self._active.values())

    def remove(self, fault_id: str) -> bool:
        """Switch a rule off, and release what it holds."""
        active = self._active.pop(fault_id, None)
        if active is not None:
            active.released.set()
        return active is not None

    def clear(self) -> None:
        """Switch all rules off."""
        for fault_id in list(self._active):
            self.remove(fault_id)

    def wants_text(self, method: str, path: str) -> bool:
        """Whether somebody must read the request's body before :meth:`find`."""
        return any(
            active.fault.contains is not None
            and not active.spent
            and active.fault.matches(method, path, active.fault.key, None)
            for active in self._active.values()
        )

    def find(self, method: str, path: str, key: str | None, text: str) -> ActiveFault | None:
        """The rule that strikes this request."""
        for active in self._active.values():
            if active.fault.matches(method, path, key, text) and active.strike(self._chances.random()):
                return active
        return None


class JobRule(BaseModel):
    """One rule for jobs that are yet to be created: those that match get the plan."""

    model_config = ConfigDict(extra="forbid")

    plan: JobPlan
    endpoint: str | None = Field(
        default=None, description="endpoint of the jobs that match; any if not given"
    )
    metadata: dict[str, str] = Field(default={}, description="metadata that the jobs must have, at least")
    skip: int = Field(default=0, ge=0, description="how many matching jobs go unharmed first")
    times: int | None = Field(default=1, ge=1, description="how many jobs get the plan; null: all")

    def matches(self, endpoint: str, metadata: Mapping[str, str] | None) -> bool:
        """Whether a job is meant."""
        return self.endpoint in (None, endpoint) and self.metadata.items() <= dict(metadata or {}).items()


class JobRules:
    """The rules for jobs in force, oldest first; the first that matches decides."""

    def __init__(self) -> None:
        self._rules: list[JobRule] = []

    def add(self, rule: JobRule) -> None:
        """Switch a rule on."""
        self._rules.append(rule)

    def clear(self) -> None:
        """Switch all rules off."""
        self._rules.clear()

    def plan_for(self, endpoint: str, metadata: Mapping[str, str] | None) -> str | None:
        """The plan of a new job, as JSON; ``None`` if nothing is planned for it."""
        for rule in self._rules:
            if not rule.matches(endpoint, metadata):
                continue
            if rule.skip:
                rule.skip -= 1
                continue
            if rule.times is not None:
                rule.times -= 1
                if not rule.times:
                    self._rules.remove(rule)
            return rule.plan.model_dump_json(exclude_defaults=True)
        return None
