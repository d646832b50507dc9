"""`python impatient.py ARGUMENTS`: `sickbay ARGUMENTS`, which kills hung trials within seconds."""

from sickbay.service.cli.app import main
from sickbay.service.sweeps import runner

runner.GRACE_SECONDS = runner.EXTRA_SECONDS = 3.0

if __name__ == "__main__":
    main()
