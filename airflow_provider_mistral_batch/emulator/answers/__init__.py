"""
The answers to rows: the same body always gets the same answer.

Imports none of the other floors.
"""
