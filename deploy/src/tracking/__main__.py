"""`python -m tracking`: the same as the command `tracking`."""

from tracking.cli.main import main

main()
