"""Result rows on disk, to be found again by their ids."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from airflow_provider_mistral_batch.jsonl.row_ids import row_ids
from airflow_provider_mistral_batch.storage.trouble import naming_disk


class RowTable:
    """
    Rows by ``custom_id``, in a temporary file. Takes some MB of memory, whatever the number of rows.

    :param directory: Where the temporary file is made; the system's default if None.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(dir=directory)
        self._rows = sqlite3.connect(Path(self._folder.name) / "rows", isolation_level=None)
        # The file is of no use after a crash.
        self._rows.execute("PRAGMA journal_mode = OFF")
        self._rows.execute("PRAGMA synchronous = OFF")
        self._rows.execute("CREATE TABLE rows (custom_id TEXT, line BLOB)")
        self._count = 0
        self._indexed = False

    def __enter__(self) -> RowTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()
        self._folder.cleanup()

    def __len__(self) -> int:
        return self._count

    def extend(self, lines: list[bytes]) -> None:
        """Add rows. Add all of them before the first :meth:`get`, which makes the index."""
        self._count += len(lines)
        with naming_disk(self._folder.name):
            self._rows.execute("BEGIN")
            self._rows.executemany("INSERT INTO rows VALUES (?, ?)", zip(row_ids(lines), lines, strict=True))
            self._rows.execute("COMMIT")

    def get(self, custom_id: str) -> bytes | None:
        """Find the row of a request; None if there is none."""
        if not self._indexed:
            with naming_disk(self._folder.name):
                self._rows.execute("CREATE INDEX ids ON rows (custom_id)")
            self._indexed = True
        found = self._rows.execute("SELECT line FROM rows WHERE custom_id = ?", (custom_id,)).fetchone()
        return None if found is None else bytes(found[0])
