"""API keys: each stands for a user of a workspace."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from airflow_provider_mistral_batch.emulator.state.store import Store


@dataclass(frozen=True)
class Caller:
    """
    Who sent a request: the owner of what it makes, and the reader of what it reads.

    :param user: Digest of the key.
    """

    workspace: str
    user: str


class Keys:
    """
    The keys that are valid, and those that were revoked.

    :param store: Where digests of the keys are kept; the keys themselves are not.
    :param required: Whether only keys that were added are valid. If not, any key is, and has a workspace of its own.
    """

    def __init__(self, store: Store, required: bool) -> None:
        self._store = store
        self._required = required
        self._callers: dict[str, Caller | None] = {}

    def add(self, key: str, workspace: str) -> None:
        """
        Make a key valid, also one that was revoked.

        :param key: The key.
        :param workspace: The workspace that it belongs to from now on.
        """
        self._store.put_key(_digest(key), workspace)
        self._callers.pop(key, None)

    def revoke(self, key: str) -> None:
        """Make a key invalid."""
        self._store.put_key(_digest(key), self.workspace_of(key), revoked=True)
        self._callers.pop(key, None)

    def workspace_of(self, key: str) -> str:
        """The workspace that a key belongs to, valid or not."""
        digest = _digest(key)
        found = self._store.find_key(digest)
        return found.workspace if found else digest

    def caller(self, key: str) -> Caller | None:
        """
        Find out whose key this is.

        :return: Its user and workspace; ``None`` if the key is not valid.
        """
        if key not in self._callers:
            self._callers[key] = self._look_up(key)
        return self._callers[key]

    def _look_up(self, key: str) -> Caller | None:
        digest = _digest(key)
        found = self._store.find_key(digest)
        if found is None:
            return None if self._required else Caller(workspace=digest, user=digest)
        return None if found.revoked else Caller(workspace=found.workspace, user=digest)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
