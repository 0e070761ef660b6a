"""
What answers HTTP requests: Mistral's API, the OpenAI-compatible dialect, and the control API for tests.

Imports ``answers``, for the bodies of errors alone, and ``state``.
"""
