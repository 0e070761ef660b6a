"""The folder that results go to: its file names, the task that owns it, and what may be overwritten."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.regular_files import NotAFileError
from airflow_provider_mistral_batch.policies.ownership import identity_hash
from airflow_provider_mistral_batch.storage.atomic import check_writable, commits_whole, write_whole
from airflow_provider_mistral_batch.storage.folders import (
    entries,
    give_name,
    refuse_link,
    remove,
    remove_folder,
    remove_folder_if_empty,
)
from airflow_provider_mistral_batch.storage.paths import local_path
from airflow_provider_mistral_batch.storage.reading import read_small
from airflow_provider_mistral_batch.storage.trouble import naming

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.policies.ownership import TaskIdentity
    from airflow_provider_mistral_batch.storage.paths import StoragePath

log = logging.getLogger(__name__)

OUTPUT_FORMATS = ("jsonl", "parquet")
IF_EXISTS = ("fail", "replace")

MANIFEST = "manifest.json"

#: Holds everything that is not final yet, in a folder for each task instance: its claim and the results of its rounds.
_WORK = ".rounds"
_OWNER = "owner.json"
_FROZEN = "frozen.json"
#: The rows of a table that was asked about.
ROWS = "rows"


class Destination:
    """
    The destination folder, as one task instance uses it.

    Results of two batches never mix. A task that finds another task's results or claim leaves the folder alone. A claim
    is a file that is written before any work; a task that then sees another task's claim gives up. So if two tasks
    start at the same moment, at most one continues.

    :param folder: The folder: a local path or an ``ObjectStoragePath``.
    :param identity: The task instance.
    :param output_format: ``jsonl`` or ``parquet``.
    :param rounds_format: The format of the rounds' files, if it is another one.
    """

    def __init__(
        self,
        folder: StoragePath,
        identity: TaskIdentity,
        output_format: str,
        *,
        rounds_format: str | None = None,
    ) -> None:
        self.folder = folder
        self.output_format = output_format
        self.rounds_format = rounds_format or output_format
        names = ("dag_id", "task_id", "run_id", "map_index", *(["deployment"] if identity.deployment else []))
        self._task = {name: getattr(identity, name) for name in names}
        self._name = identity_hash(identity)
        self._made_claim = self._made_folder = False
        #: The manifest that this worker has written, if it has: also of a task that fails afterwards.
        self.written: dict[str, Any] | None = None

    @property
    def results_path(self) -> StoragePath:
        """Final path of the rows that succeeded."""
        return self.folder / f"results.{self.output_format}"

    @property
    def errors_path(self) -> StoragePath:
        """Final path of the rows that failed."""
        return self.folder / f"errors.{self.output_format}"

    @property
    def manifest_path(self) -> StoragePath:
        """Path of the manifest, which is written after the results."""
        return self.folder / MANIFEST

    def round_path(self, number: int, name: str) -> StoragePath:
        """
        Give the path of one round's file, until the batch is done.

        :param number: The round, from 0.
        :param name: The file's name.
        """
        return self._work / str(number) / name

    def round_paths(self, number: int) -> tuple[StoragePath, StoragePath]:
        """
        Give the paths of one round's answers and failures, until the batch is done.

        :param number: The round, from 0.
        """
        return (
            self.round_path(number, f"results.{self.rounds_format}"),
            self.round_path(number, f"errors.{self.rounds_format}"),
        )

    def work_path(self, *names: str) -> StoragePath:
        """
        Give the path of another file that is not final, or of a folder of them.

        :param names: The names of the folder and the file.
        """
        path = self._work
        for name in names:
            path = path / name
        return path

    @property
    def _work(self) -> StoragePath:
        """Folder for everything of this task instance that is not final."""
        return self.folder / _WORK / self._name

    def claim(self, if_exists: str) -> None:
        """
        Reserve the folder before any work; check that results may be written to it, and that they can.

        :param if_exists: What to do about another task's results: ``fail``, or ``replace`` them at the end. The claim
            of another unfinished batch is removed at once; that batch then fails before it publishes anything.
        :raises InvalidInputError: When results may not or cannot be written here.
        """
        with naming(self.folder, "written", field="destination", for_good=True):
            try:
                self._claim(if_exists)
            except FileNotFoundError as missing:
                self.withdraw()
                # A bucket, or a folder on the way that is a file or a dangling link.
                raise InvalidInputError(
                    f"destination={str(self.folder)!r} cannot be written ({missing}): choose another one"
                ) from missing
            except Exception:
                self.withdraw()
                raise

    def _claim(self, if_exists: str) -> None:
        self._made_folder = local_path(self.folder) is not None and not self.folder.exists()
        try:
            check_writable(self.folder, (self.results_path.name, self.errors_path.name, MANIFEST))
        except NotAFileError as found:
            raise InvalidInputError(
                f"destination={str(self.folder)!r} has {found.kind} {found.path.name}, and the file needs that name: "
                "choose another one"
            ) from None
        self._check_folders()
        if if_exists == "fail" and (occupant := self._occupant()) is not None:
            raise self._occupied_by(occupant)
        if not self._has_claim():
            # Before it is there: a disk that is full leaves a part of it.
            self._made_claim = True
            write_whole(self._work / _OWNER, msgspec.json.encode(self._task))
        for other, task in self._other_claims().items():
            if if_exists == "replace":
                remove_folder(other)
                continue
            raise self._occupied_by(f"unfinished results of {_describe(task)}")

    def withdraw(self) -> None:
        """Take back a claim that this try made. An earlier try's claim stays, because its work continues."""
        if self._made_claim:
            self.release()
        if self._made_folder:
            remove_folder_if_empty(self.folder)

    def check_claim(self) -> None:
        """
        Check, before anything is published, that the folder still belongs to this task instance.

        :raises InvalidInputError: When another task has taken it.
        """
        with naming(self.folder, "written", field="destination"):
            if self._has_claim():
                return
            occupant = self._occupant()
            if occupant is None:
                # Another try, which Airflow considered dead, has finished here and removed this try's claim with its
                # own.
                write_whole(self._work / _OWNER, msgspec.json.encode(self._task))
                return
        raise InvalidInputError(
            f"destination={str(self.folder)!r} was taken over by another task with if_exists='replace' while this "
            f"batch was running, and now has {occupant}: give each run and each mapped task its own destination"
        )

    def keep_frozen(self, content: Mapping[str, Any]) -> None:
        """
        Write down the batch that this task instance is about to submit, for its next tries.

        :param content: JSON-like data; it replaces what an earlier try wrote.
        """
        with naming(self.folder, "written", field="destination"):
            write_whole(self._work / _FROZEN, msgspec.json.encode(content))

    def frozen(self) -> dict[str, Any] | None:
        """Read what :meth:`keep_frozen` wrote; ``None`` if there is nothing, and empty if it cannot be understood."""
        with naming(self.folder, "read", field="destination"):
            return _read_json(self._work / _FROZEN)

    def own_manifest(self) -> dict[str, Any] | None:
        """Read the manifest of an earlier try of this task instance; ``None`` if there is none."""
        manifest = _read_json(self.manifest_path)
        return manifest if manifest is not None and manifest.get("task") == self._task else None

    def publish(self, paths: Sequence[StoragePath]) -> None:
        """
        Give files their final names, and remove older files that readers could take for these results.

        :param paths: The results and the errors, which are not final yet.
        :raises InvalidInputError: When another task has taken the folder.
        :raises FileNotFoundError: When another try of this task has removed the round's files; nothing was changed.
        """
        self.check_claim()
        with naming(self.folder, "written", field="destination"):
            landed = {path.name for path in entries(paths[0].parent)}
            for path in paths:
                if path.name not in landed:
                    raise FileNotFoundError(f"{path} is gone")
            there = {path.name for path in entries(self.folder)}
            # Removed first: a manifest says that the results beside it are complete.
            stale = [
                MANIFEST,
                *(
                    f"{name}.{output_format}"
                    for output_format in OUTPUT_FORMATS
                    for name in ("results", "errors")
                    if output_format != self.output_format
                ),
            ]
            for name in stale:
                if name in there:
                    remove(self.folder / name)
            for path, target in zip(paths, (self.results_path, self.errors_path), strict=True):
                give_name(path, target)

    def write_manifest(self, manifest: Mapping[str, Any], *, is_final: bool = True) -> dict[str, Any]:
        """
        Write the manifest, and remove the claim and everything that is not final.

        :param manifest: The manifest.
        :param is_final: If not, nothing is removed, because the batch may be continued.
        :return: The manifest with the field ``task``, which names the task instance.
        """
        from airflow_provider_mistral_batch.jsonl.results.manifest import write_manifest

        complete = {**manifest, "task": self._task}
        with naming(self.folder, "written", field="destination"):
            if commits_whole(self.folder):
                write_manifest(complete, self.manifest_path)
            else:
                write_manifest(complete, self._work / MANIFEST)
                give_name(self._work / MANIFEST, self.manifest_path)
        self.written = complete
        if is_final:
            self.release()
        return complete

    def release_rounds(self) -> None:
        """Remove everything that is not final but the claim and the frozen input, with which the next try continues."""
        try:
            for path in entries(self._work):
                if path.name not in (_OWNER, _FROZEN, ROWS):
                    remove_folder(path)
        except Exception as error:
            log.warning("What the rounds have left in %s could not be removed: %s", self._work, error)

    def release(self) -> None:
        """Remove this task instance's claim and everything of it that is not final."""
        try:
            remove_folder(self._work)
        except Exception as error:
            # No reason to fail: what is left is hidden, and harms no retry.
            log.warning("%s could not be removed: %s", self._work, error)
        remove_folder_if_empty(self.folder / _WORK)

    def _occupant(self) -> str | None:
        """Describe the results here that are not this task instance's own; ``None`` if there are none."""
        there = {path.name for path in entries(self.folder)}
        manifest = _read_json(self.manifest_path) if MANIFEST in there else None
        if manifest is not None:
            task = manifest.get("task")
            return None if task == self._task else f"results of {_describe(task)}"
        for task in self._other_claims().values() if _WORK in there else ():
            return f"unfinished results of {_describe(task)}"
        names = (
            f"{name}.{output_format}" for output_format in OUTPUT_FORMATS for name in ("results", "errors")
        )
        found = [name for name in names if name in there]
        if found and self._has_claim():
            # An earlier try published them and died before it wrote its manifest.
            return None
        return f"{' and '.join(found)} of an unknown batch" if found else None

    def _occupied_by(self, occupant: str) -> InvalidInputError:
        return InvalidInputError(
            f"destination={str(self.folder)!r} already has {occupant}: choose another destination (each run and "
            "each mapped task needs its own, such as s3://bucket/batch/{{ run_id }}/{{ ti.map_index }}), or pass "
            "if_exists='replace'"
        )

    def _has_claim(self) -> bool:
        return _is_claim(_read_json(self._work / _OWNER))

    def _other_claims(self) -> dict[StoragePath, Any]:
        """
        Folders of other task instances that have claimed this destination, with what the claims say.

        A claim that was not written to its end, as on a full disk, is none: nobody works behind it.
        """
        others = sorted((path for path in entries(self.folder / _WORK) if path.name != self._name), key=str)
        claims = {path: _read_json(path / _OWNER) for path in others}
        return {path: task for path, task in claims.items() if _is_claim(task)}

    def _check_folders(self) -> None:
        """Refuse links in the place of folders that only we make."""
        for folder in (self.folder / _WORK, self._work):
            refuse_link(folder)
        if local_path(self._work) is not None:
            for folder in entries(self._work):
                refuse_link(folder)


def _is_claim(task: Any) -> bool:
    return isinstance(task, Mapping) and "run_id" in task


def _describe(task: Any) -> str:
    if not _is_claim(task):
        return "an unknown batch"
    mapped = f", map index {task['map_index']}" if task.get("map_index", -1) != -1 else ""
    deployment = f", deployment {task['deployment']!r}" if task.get("deployment") else ""
    return f"task {task.get('task_id')!r} of Dag {task.get('dag_id')!r}, run {task['run_id']!r}{mapped}{deployment}"


def _read_json(path: StoragePath) -> dict[str, Any] | None:
    """Read a small JSON object; ``None`` if there is no file, and empty if the content is anything else."""
    text = read_small(path)
    if text is None:
        return None
    try:
        content = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
