"""
A real HTTP server with the Batch and Files API, for demos, tests and users' own continuous integration.

It is built in floors. Each imports only the floors that this table names:

============  =============================================  ======================
floor         what it does                                   imports
============  =============================================  ======================
(this one)    starts the emulator and controls it            all of them
``http``      answers HTTP requests                          ``answers``, ``state``
``engine``    executes the jobs, in a process of its own     ``answers``, ``state``
``answers``   answers the rows
``state``     knows jobs, files, settings, faults and plans
============  =============================================  ======================

``http`` and ``engine`` communicate only through the store in ``state``.
"""

from __future__ import annotations

from airflow_provider_mistral_batch.emulator.process import Emulator

__all__ = ["Emulator"]
