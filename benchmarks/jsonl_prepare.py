"""Claim: checking requests, also for duplicates, and sharding them has at least half the speed of only decoding."""

from __future__ import annotations

from jsonl_measuring import compare


def main() -> None:
    """Measure both forms of rows in the API's documentation."""
    compare(
        "Validate and shard",
        ["copy requests", "decode requests", "prepare", "prepare with parameters"],
        limit="decode requests",
        sdk="sdk input",
        targets={"prepare": 0.5, "prepare with parameters": 0.5},
    )
    compare(
        "Validate and shard rows with method and url",
        ["decode published", "prepare published"],
        limit="decode published",
        targets={"prepare published": 0.5},
    )


if __name__ == "__main__":
    main()
