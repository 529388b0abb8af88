"""The tools of an operator: consistency check, failed updates, audit trail.

Imports no command.
"""
