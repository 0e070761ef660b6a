"""Tells Airflow which results a task of the user's has read."""

from __future__ import annotations

import logging
from typing import Any

from airflow_provider_mistral_batch.storage.paths import without_connection

log = logging.getLogger(__name__)


def note_read(path: Any) -> None:
    """
    Note a file for Airflow's hook lineage, as Airflow's own paths do when they are opened.

    :param path: The file, as the user names it or as a path object.
    """
    try:
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

        url = without_connection(path)
        get_hook_lineage_collector().add_input_asset(
            context=path, uri=url if "://" in url else f"file://{url}"
        )
    except Exception as error:
        log.debug("%s was not noted as read: %s", path, error)
