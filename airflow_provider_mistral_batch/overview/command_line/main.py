"""Runs a command of the command line, and says what went wrong in one line."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from airflow_provider_mistral_batch.api.errors import InvalidInputError, MistralBatchError
from airflow_provider_mistral_batch.api.texts import excerpt
from airflow_provider_mistral_batch.overview.command_line.arguments import parser

#: Exit statuses.
DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130

#: Most characters of an error.
_ERROR_LENGTH = 2000


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Read the command line, and run its command.

    :param arguments: The command line's arguments; those of this process if not given.
    :return: The exit status.
    """
    options = parser().parse_args(arguments)
    # Like the command line of Airflow itself: without it, newer Airflows look for connections in the environment alone.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    # Imported late: help and wrong arguments need no Airflow.
    from rich.console import Console

    try:
        from airflow_provider_mistral_batch.overview.command_line.commands import COMMANDS
    except ImportError as error:
        # Of an Airflow that is too old.
        _say(str(error))
        return FAILED

    # What Airflow logs on the way would stand amid the answer.
    was_disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    console = Console(markup=False, highlight=False, emoji=False)
    errors = Console(markup=False, highlight=False, emoji=False, stderr=True)
    try:
        return COMMANDS[options.command](options, console, errors)
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough. Without this, Python complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except InvalidInputError as error:
        _say(str(error))
        return WRONG
    except (MistralBatchError, OSError) as error:
        _say(str(error))
        return FAILED
    except Exception as error:
        if type(error).__name__ != "AirflowNotFoundException":
            raise
        _say(str(error))
        return WRONG

    finally:
        logging.disable(was_disabled)


def _say(text: str) -> None:
    sys.stderr.write(f"{excerpt(text, _ERROR_LENGTH)}\n")
