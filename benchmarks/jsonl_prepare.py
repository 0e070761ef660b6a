"""Claim: requests are checked, duplicates included, and sharded at half the speed of merely decoding them or more."""

from __future__ import annotations

from jsonl_measuring import compare


def main() -> None:
    """Measure both forms of rows that the API's documentation shows."""
    compare(
        "Validate and shard",
        ["copy requests", "decode requests", "prepare"],
        limit="decode requests",
        sdk="sdk input",
    )
    compare(
        "Validate and shard rows with method and url",
        ["decode published", "prepare published"],
        limit="decode published",
    )


if __name__ == "__main__":
    main()
