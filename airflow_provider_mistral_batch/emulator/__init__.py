"""A real HTTP server with the Batch and Files API, for demos, tests and users' own continuous integration."""

from __future__ import annotations

from .process import Emulator

__all__ = ["Emulator"]
