"""Claim: splitting, counting and reconciling results has at least 40 % of the speed of only decoding them."""

from __future__ import annotations

from jsonl_measuring import compare


def main() -> None:
    """Measure the split with all requests answered, and with some missing."""
    compare(
        "Split results",
        ["copy results", "decode results", "split", "split with missing rows", "read"],
        limit="decode results",
        sdk="sdk output",
        targets={"split": 0.4},
    )


if __name__ == "__main__":
    main()
