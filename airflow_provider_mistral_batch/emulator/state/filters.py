"""Which jobs and files a listing has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """
    The jobs of a workspace that were not deleted; each further field leaves some out.

    :param created_until: Epoch seconds; jobs made later are left out.
    :param statuses: Statuses, one of which a job must have; any if empty.
    :param created_after: Epoch seconds; jobs made then or earlier are left out.
    :param user: Digest of the key that made a job.
    :param metadata: Metadata that a job must have; it may have more.
    """

    workspace: str
    created_until: float | None = None
    statuses: Sequence[str] = ()
    created_after: float | None = None
    user: str | None = None
    model: str | None = None
    agent_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FileFilter:
    """
    The files of a workspace that a user sees now; each further field leaves some out.

    :param user: Digest of the user's key.
    :param wall: Epoch seconds of now: files that have expired are left out.
    :param sample_types: Sample types, one of which a file must have; any if empty.
    :param sources: Sources, likewise.
    :param mimetypes: MIME types, likewise.
    :param search: Text that the file's name contains; case does not matter.
    """

    workspace: str
    user: str
    wall: float
    sample_types: Sequence[str] = ()
    sources: Sequence[str] = ()
    mimetypes: Sequence[str] = ()
    purpose: str | None = None
    search: str | None = None
