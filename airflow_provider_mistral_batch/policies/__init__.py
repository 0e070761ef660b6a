"""Decisions without I/O, shared by the worker's way and the deferred way so that the two cannot drift apart."""
