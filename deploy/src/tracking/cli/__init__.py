"""The commands: their options, output and exit codes.

May import every other module of this package.
"""
