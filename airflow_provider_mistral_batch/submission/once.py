"""Sends what must not exist twice: after a lost answer, looks for what the call may have made before it sends again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from airflow_provider_mistral_batch.api.errors import MistralCallError

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Lost answers, without anything to be found, after which this try of the task is given up.
_MAX_ANSWERS_LOST = 2


def send_once(send: Callable[[], T], look: Callable[[], T | None], *, what: str) -> T:
    """
    Make something on the server with a call that must not be repeated blindly.

    :param send: Makes it.
    :param look: Finds what a call whose answer was lost may have made; looks for long enough to be sure.
    :param what: Names it in the log, such as ``batch job``.
    :return: What was made or found.
    :raises MistralCallError: When it was refused, or when it neither could be made nor found.
    """
    answers_lost = 0
    while True:
        try:
            sent = send()
            break
        except MistralCallError as error:
            if not error.may_have_acted:
                raise
            log.warning("%s The %s may exist all the same: looking for it.", error, what)
            if (found := look()) is not None:
                return found
            answers_lost += 1
            if answers_lost == _MAX_ANSWERS_LOST:
                raise
            log.info("The %s does not exist: sending it again.", what)
    return sent


def look_repeatedly(look: Callable[[], T], *, is_found: Callable[[T], bool], pauses: Sequence[float]) -> T:
    """
    Look for what may or may not exist until it is found; listings lag behind what was made.

    :param look: Looks once.
    :param is_found: Whether a look has found it.
    :param pauses: Seconds between the looks.
    :return: What the last look saw.
    """
    for pause in pauses:
        seen = look()
        if is_found(seen):
            return seen
        time.sleep(pause)
    return look()
