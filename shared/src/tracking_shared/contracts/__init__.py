"""Contracts of what crosses a process boundary or is stored: commands, events, documents, problems, workflow.

Pure: imports nothing of this package but itself and `errors`.
"""
