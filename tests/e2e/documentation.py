"""The Python blocks of the documentation, and the Dags among them."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow
from airflow import sdk
from packaging.version import Version
from pyarrow import parquet

from ..airflow_versions import AIRFLOW

CHECKOUT = Path(__file__).parents[2]

#: The bucket that stands in the examples for the reader's own; here it is a folder.
BUCKET = "s3://aws_default@bucket"

#: The day of its only partition, and of the runs of the documentation's Dags.
DAY = "2026-01-31T00:00:00Z"

#: What readers have in it.
REQUEST = '{"custom_id": "1", "body": {"messages": [{"role": "user", "content": "What is a batch?"}]}}\n'

#: And in the table `reviews` of their warehouse, which here is an SQLite file.
REVIEW_COLUMNS = ("id", "day", "title", "body", "photo_url")
REVIEWS = [
    (1, "2026-01-31", "Bag", "The zip broke on the first evening.", "https://example.com/1.jpg"),
    (2, "2026-01-31", "Belt", "Great colour, but too short for me.", "https://example.com/2.jpg"),
    (3, "2026-02-01", "Belt", None, "https://example.com/3.jpg"),
]


@dataclass(frozen=True)
class Block:
    """One block of code in a page."""

    page: str
    line: int
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_runnable(self) -> bool:
        """Whether this Python (common-ai needs 3.11) and this Airflow (see below) can run it."""
        if "airflow.providers.common.ai" in self.code and sys.version_info < (3, 11):
            return False
        if self.needs_a_person and Version("3.1") > AIRFLOW:
            return False
        since = {"retry_policy": "RetryPolicy", "DeadlineAlert": "DeadlineAlert"}
        return all(hasattr(sdk, name) for word, name in since.items() if word in self.code)

    @property
    def needs_a_person(self) -> bool:
        """Whether a task of the block waits for somebody's approval."""
        return "ApprovalOperator" in self.code

    @property
    def dag_ids(self) -> list[str]:
        """Ids of the Dags that the block makes."""
        functions = re.findall(r"^@dag\b.*\ndef (\w+)\(", self.code, re.MULTILINE)
        return functions + re.findall(r'^with DAG\("(\w+)"', self.code, re.MULTILINE)


def blocks() -> Iterator[Block]:
    """Give every Python block of the README and the guides that can run here."""
    for page in [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]:
        text = page.read_text("utf-8")
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            block = Block(str(page.relative_to(CHECKOUT)), line, match[1])
            if block.is_runnable:
                yield block


def write_dags(folder: Path, bucket: Path) -> None:
    """Write the documentation's Dags as Dag files, with a folder in place of the reader's bucket."""
    bucket.mkdir()
    (bucket / "requests.jsonl").write_text(REQUEST, "utf-8")
    (bucket / "documents").mkdir()
    (bucket / "documents" / "contract.pdf").write_bytes(b"%PDF-1.7")
    (bucket / "reviews" / "day=2026-01-31").mkdir(parents=True)
    columns = {name: [row[number] for row in REVIEWS] for number, name in enumerate(REVIEW_COLUMNS)}
    parquet.write_table(pyarrow.table(columns), bucket / "reviews" / "day=2026-01-31" / "part-1.parquet")
    for block in blocks():
        if block.dag_ids:
            name = re.sub(r"\W+", "_", str(block))
            (folder / f"{name}.py").write_text(block.code.replace(BUCKET, f"file://{bucket}"), "utf-8")


def write_warehouse(path: Path) -> None:
    """Write the database of the documentation's connection ``warehouse``."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        # Readers and writers of several Dags do not wait for each other.
        database.execute("pragma journal_mode = wal")
        database.execute(
            "create table reviews (id integer primary key, day date, title text, body text, photo_url text)"
        )
        database.executemany("insert into reviews values (?, ?, ?, ?, ?)", REVIEWS)
