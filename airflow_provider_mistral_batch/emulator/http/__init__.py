"""
Answers HTTP requests: Mistral's API, the OpenAI-compatible dialect, and the control API for tests.

Imports ``state``, and ``answers`` for the bodies of errors.
"""
