"""A sweep whose levels look like markup, HTML and commands to a terminal, and fill a screen."""

import sys

import yaml

ESCAPES = "\x1b[31mred \x1b]0;title\x07 \u202e"
LONG = f"begins {'x' * 10_000} ends"
LEVELS = [
    *("plain", "[/b]", "[red]x[/INST]", "<script>alert(1)</script>", ":smile: \\d $x_1$ & %"),
    *(ESCAPES, LONG),
]
SCRIPT = """
import sys
level, seed = sys.argv[1], int(sys.argv[2])
if "INST" in level:
    raise RuntimeError(f"no such level: [/INST] {level}")
for epoch in range(1, 9):
    loss = 0.5 / epoch + 0.01 * seed
    print(f"epoch={epoch} train_loss={loss} val_loss={'nan' if '<' in level else loss}")
"""


def write_hostile(folder):
    """Write the script and the spec of such a sweep: one arm fails, one is pathological."""
    (folder / "train.py").write_text(SCRIPT)
    spec = {
        "name": "hostile",
        "command": [sys.executable, "train.py", "{level}", "{seed}"],
        "factors": {"level": LEVELS},
        "fixed": {"epochs": 8},
        "seeds": 2,
        "working_dir": str(folder),
        "description": "[/b] <b>",
        "tags": ["[/INST]"],
    }
    file = folder / "spec.yaml"
    file.write_text(yaml.safe_dump(spec))
    return file
