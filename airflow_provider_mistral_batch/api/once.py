"""Makes create calls that must not be repeated blindly: after a lost answer it looks first, and then sends again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from airflow_provider_mistral_batch.api.errors import MistralCallError
from airflow_provider_mistral_batch.api.texts import sentence

log = logging.getLogger(__name__)

T = TypeVar("T")

#: After this many lost answers, with nothing found after each, the last error is raised.
_MAX_ANSWERS_LOST = 2


def send_once(send: Callable[[], T], look: Callable[[], T | None], *, what: str) -> T:
    """
    Create something on the server with a call that must not be repeated blindly.

    :param send: Creates it.
    :param look: Looks for it after a lost answer, long enough to be sure.
    :param what: Names it in the log, such as ``batch job``.
    :return: What was created or found.
    :raises MistralCallError: When the server refused the call, or when it could neither be created nor found.
    """
    answers_lost = 0
    while True:
        try:
            sent = send()
            break
        except MistralCallError as error:
            if not error.may_have_acted:
                raise
            log.warning("%s The %s may exist anyway: looking for it.", sentence(error), what)
            if (found := look()) is not None:
                return found
            answers_lost += 1
            if answers_lost == _MAX_ANSWERS_LOST:
                raise
            log.info("The %s does not exist: sending it again.", what)
    return sent


def look_repeatedly(look: Callable[[], T], *, is_found: Callable[[T], bool], pauses: Sequence[float]) -> T:
    """
    Look several times for something that may exist, because listings lag behind create calls.

    :param look: Looks once.
    :param is_found: Tells from the result of a look whether it was found.
    :param pauses: Seconds between the looks.
    :return: The result of the last look.
    """
    for pause in pauses:
        seen = look()
        if is_found(seen):
            return seen
        time.sleep(pause)
    return look()


def send_until_there(
    send: Callable[[], T],
    *,
    may_appear: Callable[[MistralCallError], bool],
    pauses: Sequence[float],
    what: str,
) -> T:
    """
    Send a call a few times more while the server does not see something that may appear by itself.

    :param send: Sends it once.
    :param may_appear: Tells from a refusal whether its cause is something that may appear.
    :param pauses: Seconds before each further call.
    :param what: Names in the log what may appear, such as ``a file that was just uploaded``.
    :raises MistralCallError: The last refusal, or the first that does not pass.
    """
    for number, pause in enumerate(pauses, start=1):
        try:
            return send()
        except MistralCallError as error:
            if not may_appear(error):
                raise
            log.warning(
                "%s The API may not see %s everywhere yet: calling again in %g s (%d of %d).",
                sentence(error),
                what,
                pause,
                number,
                len(pauses),
            )
        time.sleep(pause)
    return send()
