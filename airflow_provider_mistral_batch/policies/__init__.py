"""Decisions without I/O. Waits on a worker and waits in the triggerer share them, so the two cannot drift apart."""
