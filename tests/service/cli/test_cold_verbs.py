"""What a verb does not need it does not load: torch takes longer than all else a spec is checked
with, and a reader of results needs neither it nor Ray.
"""

import json
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "examples"
SYSTEMS = ("mvm-one-factor", "crossmodal-one-factor", "pointwise-labels", "query-kernel")
SPECS = [str(EXAMPLES / f"{name}.yaml") for name in (*SYSTEMS, "longtail-heads")]

LOADED = """
import json, sys
from sickbay.service.cli.app import app

for words in json.loads(sys.argv[1]):
    app(words, standalone_mode=False)
print(json.dumps([name for name in ("torch", "ray", "scipy", "optuna") if name in sys.modules]))
"""


def loaded_by(verbs, store):
    done = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps(verbs)],
        cwd=store,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_a_spec_of_a_built_in_system_is_checked_and_planned_without_torch(tmp_path):
    verbs = [[verb, spec] for spec in SPECS for verb in ("validate", "plan")]
    assert loaded_by([*verbs, ["workloads", "mvm_orientation"]], tmp_path) == []
