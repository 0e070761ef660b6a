"""The methods that OpenLineage calls on our operators and sensor, and whether it does.

The events are made in a process of their own. Nothing that goes wrong there concerns the task.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_mistral_batch.api.models import BatchJobOut
    from airflow_provider_mistral_batch.observability.lineage.told import Told

log = logging.getLogger(__name__)


class ReportsLineage:
    """A task that tells OpenLineage what it reads and writes."""

    #: The job that the task waited for or looked at, as it was at the end.
    job_seen: BatchJobOut | None = None

    def told(self, *, succeeded: bool) -> Told:
        """
        Tell what is known now.

        :param succeeded: Whether the task has ended well.
        """
        raise NotImplementedError

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any] | None:
        """Return what is known before the task runs."""
        return self._reported(is_over=False, succeeded=False)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """Return what is known after the task has ended well."""
        return self._reported(is_over=True, succeeded=True)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """Return what is known after the task has failed; results may have landed all the same."""
        return self._reported(is_over=True, succeeded=False)

    def _reported(self, *, is_over: bool, succeeded: bool) -> OperatorLineage[Any, Any] | None:
        try:
            from airflow_provider_mistral_batch.observability.lineage.events import operator_lineage

            told = self.told(succeeded=succeeded)
            return operator_lineage(
                told,
                inlets=getattr(self, "inlets", None) or (),
                outlets=getattr(self, "outlets", None) or () if is_over else (),
            )
        except Exception as error:
            log.info("OpenLineage is told nothing of this task: %s", error)
            return None


def is_listening() -> bool:
    """Tell whether OpenLineage is installed and has somewhere to send events. Airflow sends them from workers only."""
    try:
        from airflow.providers.openlineage import conf

        return not conf.is_disabled()
    except Exception:
        return False
