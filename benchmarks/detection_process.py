"""One process full of triggers, which records when each reported the end of its job."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from airflow_provider_mistral_batch.triggers.mistral_batch import MistralBatchJobTrigger


async def _ended_at(batch_id: str) -> float:
    trigger = MistralBatchJobTrigger(batch_id, "measured", deadline=time.time() + 24 * 3600)
    async for _ in trigger.run():
        return time.time()
    raise RuntimeError("a trigger ended without an event")


async def _all(batch_ids: list[str]) -> dict[str, float]:
    begun = time.time()
    ended = await asyncio.gather(*map(_ended_at, batch_ids))
    return {"begun": begun, **dict(zip(batch_ids, ended, strict=True))}


def main() -> None:
    """
    Read job ids from standard input, and print when the end of each job was reported (epoch seconds).

    The only argument is the id of a job that is over: waiting for it first imports every module that is needed.
    """
    result = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    asyncio.run(_ended_at(sys.argv[1]))
    os.write(result, b"ready\n")
    batch_ids = json.load(sys.stdin)
    os.write(result, json.dumps(asyncio.run(_all(batch_ids))).encode())


if __name__ == "__main__":
    main()
