"""The tools of an operator: consistency check, failed and held updates, erasure, archive, audit trail.

Imports no command.
"""
