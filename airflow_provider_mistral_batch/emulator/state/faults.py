"""Faults that a test switches on: rules that say what goes wrong with which requests."""

from __future__ import annotations

import asyncio
import itertools
import random
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from airflow_provider_mistral_batch.emulator.state.clock import Seconds

#: What a header can carry.
HeaderText = Annotated[str, StringConstraints(pattern=r"^[ -~]*$", max_length=2_000)]

FaultKind = Literal["status", "html", "redirect", "truncate", "alter", "cut", "slow", "hold", "drop"]


class Fault(BaseModel):
    """A rule: what goes wrong, with which requests, and how often."""

    model_config = ConfigDict(extra="forbid")

    kind: FaultKind = Field(description="what goes wrong, see docs/emulator.md")
    method: str | None = Field(default=None, description="HTTP method that matches; any if not given")
    path: str = Field(default="*", description="path that matches; * stands for anything")
    contains: str | None = Field(
        default=None, description="text that the request's query or JSON body must contain"
    )
    key: str | None = Field(default=None, description="API key that the request must carry")
    skip: int = Field(default=0, ge=0, description="how many matching requests are left alone first")
    times: int | None = Field(default=1, ge=1, description="how many requests are hit; null: all")
    probability: float = Field(
        default=1.0, ge=0, le=1, description="how likely a matching request is hit, 0 to 1"
    )
    when: Literal["before", "after"] = Field(
        default="before", description="drop, hold: before or after the request is worked on"
    )
    status: int = Field(default=503, ge=200, le=599, description="status: the answer's status code")
    retry_after: int | HeaderText | None = Field(
        default=None, description="status: the header Retry-After, in seconds or as a date"
    )
    message: str = Field(default="A fault that was switched on", description="status: the error's message")
    body: Any = Field(default=None, description="status: a JSON body instead of the API's error body")
    location: HeaderText = Field(
        default="http://elsewhere.invalid", description="redirect: base URL to go to"
    )
    fields: dict[str, Any] = Field(default={}, description="alter: fields to set in the answer's JSON object")
    seconds: Seconds | None = Field(
        default=None, description="slow, hold: for how long; a hold without it waits for its release"
    )
    bytes: int = Field(
        default=0, ge=0, le=10**15, description="cut: how many bytes of the answer's body are sent"
    )

    def matches(self, method: str, path: str, key: str | None, text: str | None) -> bool:
        """
        Whether the rule is about a request.

        :param method: The request's HTTP method.
        :param path: Its path, without the query.
        :param key: The API key that it carries.
        :param text: Its query and JSON body; ``None`` if they are not known, and any text matches.
        """
        return (
            (self.method is None or self.method.upper() == method)
            and fnmatchcase(path, self.path)
            and (self.key is None or self.key == key)
            and (self.contains is None or text is None or self.contains in text)
        )


class ActiveFault:
    """
    A fault that is switched on, and what it has done so far.

    :param fault_id: Its id in the control API.
    :param fault: Its rule.
    """

    def __init__(self, fault_id: str, fault: Fault) -> None:
        self.id = fault_id
        self.fault = fault
        self.hits = 0
        self.held = 0
        self.released = asyncio.Event()
        self._skip = fault.skip

    @property
    def spent(self) -> bool:
        """Whether it has hit as many requests as it may."""
        return self.fault.times is not None and self.hits >= self.fault.times

    def hit(self, chance: float) -> bool:
        """
        Decide whether a request that matches is hit, and count it if so.

        :param chance: A random number from 0 to 1.
        """
        if self.spent or chance >= self.fault.probability:
            return False
        if self._skip:
            self._skip -= 1
            return False
        self.hits += 1
        return True

    def as_dict(self) -> dict[str, Any]:
        """The fault as the control API shows it: without the key that it matches."""
        rule = self.fault.model_dump(exclude_defaults=True, exclude={"key"})
        return {"id": self.id, "hits": self.hits, "held": self.held, "spent": self.spent, "rule": rule}


class FaultRules:
    """
    The faults that are switched on, oldest first. The first one that hits a request decides what it gets.

    :param chances: Where random numbers come from; the same ones in every run if not given.
    """

    def __init__(self, chances: random.Random | None = None) -> None:
        self._active: dict[str, ActiveFault] = {}
        self._ids = itertools.count(1)
        self._chances = chances or random.Random(0)

    def add(self, fault: Fault) -> ActiveFault:
        """Switch a fault on."""
        active = ActiveFault(f"fault-{next(self._ids)}", fault)
        self._active[active.id] = active
        return active

    def get(self, fault_id: str) -> ActiveFault | None:
        """The fault with this id; ``None`` if there is none."""
        return self._active.get(fault_id)

    def all(self) -> list[ActiveFault]:
        """All faults that are switched on, spent ones too."""
        return list(self._active.values())

    def remove(self, fault_id: str) -> bool:
        """
        Switch a fault off, and release the requests that it holds.

        :return: Whether there was a fault with this id.
        """
        active = self._active.pop(fault_id, None)
        if active is not None:
            active.released.set()
        return active is not None

    def clear(self) -> None:
        """Switch all faults off."""
        for fault_id in list(self._active):
            self.remove(fault_id)

    def needs_body(self, method: str, path: str) -> bool:
        """Whether :meth:`find` needs to know the body of a request with this method and path."""
        return any(
            active.fault.contains is not None
            and not active.spent
            and active.fault.matches(method, path, active.fault.key, None)
            for active in self._active.values()
        )

    def find(self, method: str, path: str, key: str | None, text: str) -> ActiveFault | None:
        """
        Find the fault that hits a request, and count the hit.

        :param method: The request's HTTP method.
        :param path: Its path, without the query.
        :param key: The API key that it carries.
        :param text: Its query, and its JSON body if :meth:`needs_body` asks for it.
        :return: The fault; ``None`` if the request is left alone.
        """
        for active in self._active.values():
            if active.fault.matches(method, path, key, text) and active.hit(self._chances.random()):
                return active
        return None
