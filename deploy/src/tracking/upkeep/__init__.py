"""The tools of an operator: consistency check, failed and held updates, erasure, archive, audit trail.

The consistency check: `checker` has the rules, `due_checks`, `held_checks` and `archive_check` those of one
subject; `record_reader` reads the records, `recheck` looks again at suspicious ones, `check` is the command.

Imports no command.
"""
