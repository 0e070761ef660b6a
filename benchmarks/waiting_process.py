"""One process full of waiting triggers of one provider, which measures itself."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Seconds between two heartbeats, which detect stalls of the event loop.
BEAT = 0.01

#: Seconds with heartbeats only, to measure their CPU time.
_CALIBRATION = 3.0


def _mistral(batch_id: str, poll_interval: float) -> Any:
    from airflow_provider_mistral_batch.triggers.mistral_batch import MistralBatchJobTrigger

    return MistralBatchJobTrigger(batch_id, "measured", deadline=_deadline(), poll_interval=poll_interval)


def _anthropic(batch_id: str, poll_interval: float) -> Any:
    from airflow.providers.anthropic.triggers.batch import AnthropicBatchTrigger

    return AnthropicBatchTrigger("measured", batch_id, poll_interval=poll_interval, end_time=_deadline())


def _openai(batch_id: str, poll_interval: float) -> Any:
    from airflow.providers.openai.triggers.openai import OpenAIBatchTrigger

    return OpenAIBatchTrigger("measured", batch_id, poll_interval=poll_interval, timeout=24 * 3600)


def _common_ai(batch_id: str, poll_interval: float) -> Any:
    from airflow.providers.common.ai.triggers.llm_batch import LLMBatchTrigger

    return LLMBatchTrigger(
        llm_conn_id="measured",
        adapter="openai",
        batch_id=batch_id,
        poll_interval=int(poll_interval),
        end_time=_deadline(),
        cancel_on_kill=False,
        cancel_on_timeout=False,
    )


TRIGGERS: dict[str, Callable[[str, float], Any]] = {
    "mistral": _mistral,
    "anthropic": _anthropic,
    "common-ai": _common_ai,
    "openai": _openai,
}


def _deadline() -> float:
    return time.time() + 24 * 3600


async def _run(trigger: Any) -> Any:
    """Return the first event of a trigger, as the triggerer would."""
    async for event in trigger.run():
        return event
    return None


class _Heartbeat:
    """Measures how long the event loop stalls, and how much of that is garbage collection."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.cpu_in_longest = 0.0
        self.longest_collection = 0.0
        self.longest_without = 0.0
        self.beating: asyncio.Task[None] | None = None
        self._last = time.perf_counter()
        self._last_cpu = time.process_time()
        self._collecting = 0.0
        self._began = 0.0
        gc.callbacks.append(self._collection)

    async def beat(self) -> None:
        while True:
            self._last, self._last_cpu, self._collecting = time.perf_counter(), time.process_time(), 0.0
            await asyncio.sleep(BEAT)
            self.note()

    def note(self) -> None:
        """Record how late the next beat already is."""
        now = time.perf_counter()
        late = now - self._last - BEAT
        # A collection in another thread also stalls the loop, and may not have reported its end yet.
        collecting = self._collecting + (now - self._began if self._began else 0.0)
        if late > self.longest:
            self.longest, self.cpu_in_longest = late, time.process_time() - self._last_cpu
        self.longest_without = max(self.longest_without, late - collecting)

    def _collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
            return
        took, self._began = time.perf_counter() - self._began, 0.0
        self._collecting += took
        self.longest_collection = max(self.longest_collection, took)


async def _measure(order: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
    make = TRIGGERS[order["provider"]]
    # One wait that ends at once, so that every module is imported before the measurement.
    ended = await _run(make(order["over"], order["poll_interval"]))
    assert ended is not None
    # Log lines are formatted and written as in a triggerer, but discarded.
    logging.basicConfig(level=logging.INFO, handlers=[logging.FileHandler(os.devnull)], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    gc.collect()
    before = len(gc.get_objects())
    _reset_peak()
    heart = _Heartbeat()
    heart.beating = asyncio.create_task(heart.beat())
    beating_takes = await _cpu_a_second()
    heart.longest = heart.longest_without = 0.0
    memory, cpu = _memory("VmRSS"), _cpu()
    waiting: list[asyncio.Task[Any]] = []

    def measured() -> dict[str, Any]:
        heart.note()
        return {
            "triggers": len(waiting),
            "ended": sum(task.done() for task in waiting),
            "cpu_seconds": round(_cpu() - cpu - beating_takes * order["seconds"], 2),
            "peak_mb": round((_memory("VmHWM") - memory) / 1024, 1),
            "stall_ms": round(heart.longest * 1000, 1),
            "stall_cpu_ms": round(heart.cpu_in_longest * 1000, 1),
            "collection_ms": round(heart.longest_collection * 1000, 1),
            "stall_without_ms": round(heart.longest_without * 1000, 1),
            "objects_before": before,
        }

    # In a thread, because triggers that block the event loop would delay it.
    threading.Timer(order["seconds"], lambda: tell(measured())).start()
    for batch_id in order["batch_ids"]:
        # The triggerer also yields to the event loop between two triggers that it starts.
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(_run(make(batch_id, order["poll_interval"]))))
    await asyncio.Event().wait()


async def _cpu_a_second() -> float:
    """Measure the CPU seconds per second that the heartbeats alone take."""
    cpu, began = _cpu(), time.monotonic()
    await asyncio.sleep(_CALIBRATION)
    return (_cpu() - cpu) / (time.monotonic() - began)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _reset_peak() -> None:
    """Reset the peak memory, which the imports have raised."""
    Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> int:
    """Return this process's memory in KiB, from Linux: ``VmRSS`` is current, ``VmHWM`` the peak."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0])


def main() -> None:
    """Read from standard input what to wait for, and print the measurements."""
    order = json.load(sys.stdin)
    # Keep the original standard output for the result, and discard everything else that is printed.
    result = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def tell(measured: dict[str, Any]) -> None:
        os.write(result, json.dumps(measured).encode())
        # Ends the process at once: the waiting triggers no longer matter.
        os._exit(0)

    asyncio.run(_measure(order, tell))


if __name__ == "__main__":
    main()
