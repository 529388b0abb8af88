"""`python -m tracking`: the same as the command `tracking`."""

from tracking.cli import main

main()
