"""
A real HTTP server with the Batch and Files API, for demos, tests and users' own continuous integration.

``http`` answers requests, ``engine`` executes jobs in a process of its own, ``answers`` answers the rows, and ``state``
has what both remember: jobs, files, settings, faults and plans. ``http`` and ``engine`` communicate only through the
store in ``state``.
"""

from __future__ import annotations

from airflow_provider_mistral_batch.emulator.process import Emulator

__all__ = ["Emulator"]
