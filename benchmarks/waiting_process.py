"""One process full of waiting triggers, measured from within; there is one for each provider."""

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

#: Seconds between two beats of the heart by which stalls of the event loop are noticed.
BEAT = 0.01

#: Seconds for which the heart beats alone, to know what it takes.
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
    """Take the first event of a trigger, as the triggerer does."""
    async for event in trigger.run():
        return event
    return None


class _Heartbeat:
    """Notices how long the event loop did not come round, and how much of that the garbage collector took."""

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
        """Note how late the next beat is already."""
        now = time.perf_counter()
        late = now - self._last - BEAT
        # A collection in another thread holds us up as well, and may not have said yet that it is over.
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
    # One wait that is over at once, so that all that is ever imported has been.
    ended = await _run(make(order["over"], order["poll_interval"]))
    assert ended is not None
    # What triggers log is formatted and written as in a triggerer, and read by nobody.
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

    # By a thread, since triggers that block the event loop would not let it come to that.
    threading.Timer(order["seconds"], lambda: tell(measured())).start()
    for batch_id in order["batch_ids"]:
        # The triggerer lets others run between two triggers that it starts, too.
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(_run(make(batch_id, order["poll_interval"]))))
    await asyncio.Event().wait()


async def _cpu_a_second() -> float:
    """CPU seconds a second while nothing waits yet: what the heart takes."""
    cpu, began = _cpu(), time.monotonic()
    await asyncio.sleep(_CALIBRATION)
    return (_cpu() - cpu) / (time.monotonic() - began)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _reset_peak() -> None:
    """Forget the peak of the imports, where Linux lets us."""
    Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> int:
    """Kibibytes of this process, as Linux tells: ``VmRSS`` now, ``VmHWM`` at most so far."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0])


def main() -> None:
    """Read from standard input what to wait for, and print what it took."""
    order = json.load(sys.stdin)
    # Whatever is printed does not go to whoever reads the result.
    result = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def tell(measured: dict[str, Any]) -> None:
        os.write(result, json.dumps(measured).encode())
        # Whatever waits is of no more interest.
        os._exit(0)

    asyncio.run(_measure(order, tell))


if __name__ == "__main__":
    main()
