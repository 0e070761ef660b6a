"""
Holds what the emulator knows: jobs and files on disk, settings, keys, faults, plans and counters.

Imports none of the other floors.
"""
