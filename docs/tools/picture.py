"""Draw the README's picture: the verdicts of a stored sweep, as an SVG.

sickbay run examples/quickstart.yaml
.venv/bin/python docs/tools/picture.py sickbay-results quickstart
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from sickbay.service.query.lookup import find_sweep, stored_spec
from sickbay.service.reports.verdicts import print_verdicts
from sickbay.trials.store import open_store

store = open_store(sys.argv[1], create=False)
sweep = find_sweep(store, sys.argv[2]).sweep_id
console = Console(record=True, width=118, file=io.StringIO(), force_terminal=True)
print_verdicts(console, store, sweep, stored_spec(store, sweep))
svg = console.export_svg(title="sickbay run examples/quickstart.yaml")
svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # nothing is loaded from elsewhere
svg = svg.replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")
(Path(__file__).parent.parent / "quickstart.svg").write_text(svg)
