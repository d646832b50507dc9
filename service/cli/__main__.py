"""`python -m sickbay.service.cli`: the command line where its script is not on the path."""

from sickbay.service.cli.app import main

main()
