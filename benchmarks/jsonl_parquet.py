"""Claim: a million results become a Parquet file with typed columns in constant memory."""

from __future__ import annotations

from jsonl_measuring import compare


def main() -> None:
    """Measure the split into Parquet beside the split into JSONL."""
    compare(
        "Split results to Parquet",
        ["copy results", "decode results", "split", "split to parquet"],
        limit="decode results",
        sdk="sdk output",
        targets={"split to parquet": None},
    )


if __name__ == "__main__":
    main()
