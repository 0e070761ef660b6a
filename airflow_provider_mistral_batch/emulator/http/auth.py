"""Who calls: a bearer token stands for a user of a workspace."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from airflow_provider_mistral_batch.emulator.http.errors import ApiError
from airflow_provider_mistral_batch.emulator.state.store import Store


@dataclass(frozen=True)
class Caller:
    """The owner of what a request makes, and the reader of what it reads."""

    workspace: str
    user: str


def key_digest(key: str) -> str:
    """What stands for a key in the state directory: no key is ever stored."""
    return hashlib.sha256(key.encode()).hexdigest()


class Keys:
    """The tokens that are known, revoked or, unless some are required, made up by a caller.

    :param required: refuse tokens that nobody registered. Otherwise any token is good, and has a
        workspace of its own.
    """

    def __init__(self, store: Store, required: bool) -> None:
        self._store = store
        self._required = required
        self._callers: dict[str, Caller | None] = {}

    def add(self, key: str, workspace: str) -> None:
        """Let ``key`` in, to ``workspace``. Adding a revoked key makes it good again."""
        self._store.put_key(key_digest(key), workspace)
        self._callers.pop(key, None)

    def revoke(self, key: str) -> None:
        """Answer 401 to ``key`` from now on."""
        digest = key_digest(key)
        found = self._store.find_key(digest)
        self._store.put_key(digest, found["workspace"] if found else digest, revoked=True)
        self._callers.pop(key, None)

    def workspace_of(self, key: str) -> str:
        """The workspace that ``key`` belongs to, revoked or not."""
        digest = key_digest(key)
        found = self._store.find_key(digest)
        return str(found["workspace"]) if found else digest

    def caller(self, authorization: str | None) -> Caller:
        """Who sent this ``Authorization`` header.

        :raises ApiError: 401 if the header is missing, or its token unknown or revoked.
        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise unauthorized("No API key was given: send it as a bearer token")
        if token not in self._callers:
            self._callers[token] = self._look_up(token)
        caller = self._callers[token]
        if caller is None:
            raise unauthorized("Invalid API key")
        return caller

    def _look_up(self, token: str) -> Caller | None:
        digest = key_digest(token)
        found = self._store.find_key(digest)
        if found is None:
            return None if self._required else Caller(workspace=digest, user=digest)
        return None if found["revoked"] else Caller(workspace=found["workspace"], user=digest)


def unauthorized(message: str) -> ApiError:
    """The 401."""
    return ApiError(401, message, "unauthorized", headers={"WWW-Authenticate": "Bearer"})
