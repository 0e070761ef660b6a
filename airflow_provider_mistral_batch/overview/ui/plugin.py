"""The plugin by which Airflow finds the page. Schedulers import it, too, so that it imports next to nothing."""

from __future__ import annotations

from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from airflow import __version__
from airflow.plugins_manager import AirflowPlugin
from packaging.version import Version

#: Where the page's server part is, below the path of ``[api] base_url``.
PREFIX = "/mistral-batches"

#: The first Airflow whose API takes the browser's cookie from a page such as ours.
FIRST_AIRFLOW = Version("3.1.1")

#: Names of the parts of the page, by where they are. Airflow's UI keeps one component for each name.
PARTS = (
    ("Mistral Batches", "nav", "mistral-batches"),
    ("Mistral Batch", "task_instance", "mistral-batch"),
    ("Mistral Batch Runs", "dag", "mistral-batch-runs"),
)


class MistralBatchPlugin(AirflowPlugin):
    """Shows the batch jobs of all ``mistral`` connections to whoever may see them."""

    name = "mistral_batch"

    @property
    def is_supported(self) -> bool:
        """Whether this Airflow can show the page."""
        return Version(Version(__version__).base_version) >= FIRST_AIRFLOW

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The page's server part: built when the API server asks, and nowhere else."""
        if not self.is_supported:
            return []
        from airflow_provider_mistral_batch.overview.ui.app import make_app

        return [{"name": "Mistral Batches", "app": make_app(), "url_prefix": PREFIX}]

    @cached_property
    def react_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The parts of the page, as Airflow's UI loads them."""
        if not self.is_supported:
            return []
        from airflow.configuration import conf

        path = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
        return [
            {
                "name": name,
                "bundle_url": f"{path}{PREFIX}/static/page.js?part={part}",
                "destination": destination,
                "url_route": part,
                **({"category": "browse"} if destination == "nav" else {}),
            }
            for name, destination, part in PARTS
        ]
