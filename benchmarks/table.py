"""Claim: a million rows become request files, and answers typed columns, in constant memory and near the limit."""

from __future__ import annotations

from pathlib import Path

import table_in_postgresql
from jsonl_measuring import compare

_STEPS = Path(__file__).with_name("table_steps.py")

#: Most MB over the imports; the imports of pyarrow take about 100 MB themselves.
_MOST_MB = 200


def main() -> None:
    """Measure the way in and the way out, each beside the step that limits it."""
    compare(
        "Parquet rows to request files",
        ["decode requests", "parquet to requests"],
        limit="decode requests",
        targets={"parquet to requests": 0.35},
        script=_STEPS,
        most_mb=_MOST_MB,
    )
    compare(
        "Results to typed columns",
        ["decode results", "read to columns", "results to parquet", "results to columns"],
        limit="decode results",
        targets={"results to columns": 0.2},
        script=_STEPS,
        most_mb=_MOST_MB,
    )
    if table_in_postgresql.is_there():
        try:
            compare(
                "PostgreSQL rows to request files",
                ["postgresql cursor", "postgresql rows", "postgresql to requests"],
                limit="postgresql cursor",
                targets={"postgresql to requests": None},
                prepare=table_in_postgresql.fill,
                script=_STEPS,
                most_mb=_MOST_MB,
            )
        finally:
            table_in_postgresql.drop()
    compare(
        "Embeddings to Parquet, 1,024 numbers a row",
        ["decode embeddings", "embeddings to columns"],
        limit="decode embeddings",
        targets={"embeddings to columns": 0.3},
        script=_STEPS,
        most_mb=_MOST_MB,
    )


if __name__ == "__main__":
    main()
