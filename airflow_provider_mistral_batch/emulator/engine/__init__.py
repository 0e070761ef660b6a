"""
What executes the jobs, in a process of its own so that the server answers quickly meanwhile.

The two talk through the store alone. Imports ``answers`` and ``state``.
"""
