"""Buttons of the task's page."""
