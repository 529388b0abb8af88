"""The development stack on one machine: broker, database and services as supervised child processes.

Imports no command.
"""
