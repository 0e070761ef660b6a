"""
Executes the jobs, in a process of its own so that the server stays responsive.

The engine and the server communicate only through the store. Imports ``answers`` and ``state``.
"""
