"""A first spec for a training script, from its source: options, defaults, metric names.

The source is read, never run. Options of a few choices, switches and learning rates become factors;
Sickbay passes seeds and epochs; other options are listed as a comment. The task is stated where all
losses agree on it; what no source can say (samples of each class, the floor) is a comment.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sickbay.service.query.lookup import SweepError
from sickbay.trials.contract import Goal, Scalar
from sickbay.trials.errors import nearest
from sickbay.trials.logs.signal_names import match_names

SEEDS = ("seed", "random_seed", "manual_seed", "random_state")
EPOCHS = ("epochs", "num_epochs", "n_epochs", "max_epochs", "num_train_epochs")
RATES = ("lr", "learning_rate", "base_lr", "init_lr")
METRIC = re.compile(
    r"[A-Za-z][\w/]*(?:loss|acc|accuracy|auc|auroc|err|error|mse)\b"
    r"|\b(?:loss|acc|accuracy|auc|auroc|error)/\w+",
    re.IGNORECASE,
)
OBJECTIVES = {"val_loss": Goal.MINIMIZE, "val_accuracy": Goal.MAXIMIZE, "val_auroc": Goal.MAXIMIZE}
DEFAULT_EPOCHS = 20
LOSSES = {
    "multiclass": "CrossEntropyLoss cross_entropy NLLLoss nll_loss SparseCategoricalCrossentropy"
    " CategoricalCrossentropy sparse_categorical_crossentropy categorical_crossentropy",
    "binary": "BCEWithLogitsLoss binary_cross_entropy_with_logits BCELoss binary_cross_entropy"
    " BinaryCrossentropy binary_crossentropy",
    "regression": "MSELoss mse_loss MeanSquaredError mean_squared_error mse L1Loss l1_loss"
    " HuberLoss huber_loss SmoothL1Loss smooth_l1_loss",
}
TASK_OF = {loss: task for task, losses in LOSSES.items() for loss in losses.split()}
CLASSES = ("num_classes", "n_classes", "nclasses", "num_labels")
CHANGES_FLOOR = {"weight", "pos_weight", "label_smoothing"}
MOST_COUNTS = 20  # classes whose samples are written down to be corrected
WIDE = 26  # where the comments begin

LINES = """\
import sickbay
run = sickbay.start(task="multiclass", classes=counts, floor="cross_entropy", val_n=len(y_val))
run.watch(model)                                           # before the loop
run.log(epoch=epoch, train_loss=train_loss, val_loss=val_loss, outputs=logits, targets=y_val)
"""


@dataclass(frozen=True)
class Option:
    """An option of a script: its flag, the name of its value, and what it may be."""

    flag: str
    name: str
    default: Scalar | None = None
    choices: tuple[Scalar, ...] = ()
    switch: bool = False


@dataclass(frozen=True)
class ScriptSpec:
    """A spec's text, and remarks to read before running it."""

    text: str
    remarks: tuple[str, ...]


def script_spec(script: Path) -> ScriptSpec:
    """Write a spec for a script; raises SweepError for one that cannot be read as Python."""
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise SweepError(f"{script} cannot be read as a Python script: {error}") from error
    options = tuple(_options(tree))
    names = list(dict.fromkeys(_metrics(tree)))
    remarks = _remarks(options, names)
    return ScriptSpec(_text(script, tree, options, names), tuple(remarks))


def _options(tree: ast.AST) -> Iterator[Option]:
    """The options of every `add_argument("--name", …)`; positional ones are left out."""
    for node in _calls(tree):
        if _called(node) != "add_argument":
            continue
        flags = [_constant(argument) for argument in node.args]
        long = next((str(flag) for flag in flags if str(flag).startswith("--")), None)
        if long is None:
            continue
        keys = {keyword.arg: keyword.value for keyword in node.keywords}
        action = _constant(keys.get("action"))
        name = _constant(keys.get("dest")) or long.lstrip("-").replace("-", "_")
        yield Option(
            flag=long,
            name=str(name),
            default=_scalar(keys.get("default")),
            choices=_choices(keys.get("choices")),
            switch=action in ("store_true", "store_false"),
        )


def _constant(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except (ValueError, TypeError):
        return None


def _scalar(node: ast.expr | None) -> Scalar | None:
    value = _constant(node)
    return value if isinstance(value, bool | int | float | str) else None


def _choices(node: ast.expr | None) -> tuple[Scalar, ...]:
    value = _constant(node)
    values = value if isinstance(value, list | tuple | set) else ()
    return tuple(choice for choice in values if isinstance(choice, bool | int | float | str))


def _metrics(tree: ast.AST) -> Iterator[str]:
    """Names of metrics in the texts of a script: what it prints or logs, as far as can be seen."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from METRIC.findall(node.value)


def _text(script: Path, tree: ast.AST, options: Sequence[Option], names: Sequence[str]) -> str:
    taken = {declared.name: declared for declared in options}
    command = ["python", script.name]
    factors: dict[str, str] = {}
    left = []
    for option in options:
        if option.name in SEEDS:
            command += [option.flag, "{seed}"]
        elif option.name in EPOCHS:
            command += [option.flag, "{epochs}"]
        elif levels := _levels(option):
            factors[option.name] = levels
            command += [*([] if option.switch else [option.flag]), f"{{{option.name}}}"]
        else:
            left.append(f"{option.flag} ({_written(option.default)})")
    epochs = next((taken[name].default for name in EPOCHS if name in taken), None)
    lines = [
        f"# A first spec for {script.name}: remove what you do not want to vary, then",
        "#   sickbay plan SPEC     sickbay run SPEC",
        f"name: {_sweep_name(script)}",
        f"command: {' '.join(command)}",
        *(["factors:"] if factors else ["factors: {}"]),
        *(f"  {name}: {levels}" for name, levels in factors.items()),
        *([] if script.parent == Path() else [f"working_dir: {script.parent}"]),
        "seeds: 3",
        f"fixed: {{epochs: {epochs if isinstance(epochs, int) else DEFAULT_EPOCHS}}}",
        *_objective(names),
        *_facts(tree, options),
        *([f"# other options, with their defaults: {', '.join(left)}"] if left else []),
    ]
    return "\n".join(lines) + "\n"


def _facts(tree: ast.AST, options: Sequence[Option]) -> list[str]:
    """The lines of `facts`: the task if all losses agree on it, the rest as comments to fill in."""
    losses = list(_losses(tree))
    tasks = sorted({TASK_OF[name] for name, _ in losses})
    if not tasks:
        return [
            "# What is known about the task lets trials be called healthy; keys in docs/spec.md:",
            "# facts: {task: multiclass, classes: [50, 50], floor: cross_entropy, val_n: 100}",
        ]
    why = "the script uses " + " and ".join(dict.fromkeys(name for name, _ in losses))
    if len(tasks) == 1:
        lines = ["facts:", f"  {f'task: {tasks[0]}':<{WIDE}} # {why}"]
    else:
        lines = ["# facts:", _unsure(f"task: {' or '.join(tasks)}", why)]
    if tasks == ["regression"]:
        lines.append(_unsure("floor: 1.0", "the best constant's loss: for MSE, the variance"))
    else:
        known = _classes(tree, options) or 2
        counts = ", ".join(["100"] * known) if known <= MOST_COUNTS else "…"
        lines.append(_unsure(f"classes: [{counts}]", f"samples of each of the {known} classes"))
        changed = sorted({key for _, keys in losses for key in keys})
        differs = f"differs with {' and '.join(changed)}: see sickbay.TaskFacts.of"
        why = differs if changed else "the loss of the best constant: the entropy of these classes"
        lines.append(_unsure("floor: cross_entropy", why))
    return [*lines, _unsure("val_n: 100", "validation samples")]


def _unsure(key: str, why: str) -> str:
    return f"#   {key:<{WIDE}} # {why}"


def _losses(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """The losses of a script, with the arguments that change the floor.

    A name counts where it is called, a text where it is the argument `loss`.
    """
    for call in _calls(tree):
        if _called(call) in TASK_OF:
            keys = [keyword.arg for keyword in call.keywords if keyword.arg in CHANGES_FLOOR]
            yield _called(call), [key for key in keys if key]
        named = [_constant(keyword.value) for keyword in call.keywords if keyword.arg == "loss"]
        yield from ((name, []) for name in named if isinstance(name, str) and name in TASK_OF)


def _classes(tree: ast.AST, options: Sequence[Option]) -> int | None:
    """The number of classes: an option's default, a literal of that name, or the last Linear's."""
    stated: list[Any] = [option.default for option in options if option.name in CLASSES]
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            names = [target.id.lower() for target in node.targets if isinstance(target, ast.Name)]
            stated += [_constant(node.value)] if set(names) & set(CLASSES) else []
        elif isinstance(node, ast.keyword) and node.arg in CLASSES:
            stated.append(_constant(node.value))
    layers = [call for call in _calls(tree) if _called(call) == "Linear" and len(call.args) > 1]
    layers.sort(key=lambda call: (call.lineno, call.col_offset))
    stated += [_constant(layer.args[1]) for layer in layers[-1:]]
    return next((n for n in stated if isinstance(n, int) and n > 1), None)


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _called(call: ast.Call) -> str:
    """The last part of the name that is called."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _levels(option: Option) -> str:
    """The levels of an option worth varying, its default first; empty for any other."""
    if option.switch:
        return f'["", "{option.flag}"]'
    if option.choices:
        first = [option.default] if option.default in option.choices else []
        rest = [choice for choice in option.choices if choice not in first]
        return yaml.safe_dump([*first, *rest], default_flow_style=True, width=1000).strip()
    if option.name in RATES and isinstance(option.default, int | float):
        rate = float(option.default)
        return f"[{rate:g}, {rate / 10:g}, {rate * 10:g}]"
    return ""


def _objective(names: Sequence[str]) -> list[str]:
    """The objective, chosen by the script's metric names; a comment where it is the default."""
    taken = match_names(list(names), {}, ()).taken
    signal = next((candidate for candidate in OBJECTIVES if candidate in taken), None)
    if signal is None or signal == "val_loss":
        return []
    return [f"objective: {{signal: {signal}, goal: {OBJECTIVES[signal]}}}"]


def _remarks(options: Sequence[Option], names: Sequence[str]) -> Iterator[str]:
    known = {option.name for option in options}
    if not known & set(SEEDS):
        yield "the script has no --seed option: without one all seeds run the same trial"
    if not known & set(EPOCHS):
        yield "the script has no --epochs option: set `fixed: {epochs: N}` to what it trains for"
    taken: Mapping[str, str] = match_names(list(names), {}, ()).taken
    if not set(taken) & set(OBJECTIVES):
        close = nearest("val_loss", names)
        says = f", or say facts: {{map: {{{close}: val_loss}}}}" if close else ""
        yield f"found no validation metric in its source: print val_loss=… each epoch{says}"
    else:
        pairs = (f"{name} as {signal}" for signal, name in taken.items() if signal != name)
        if renamed := ", ".join(pairs):
            yield f"metrics: {renamed}"


def _written(value: Scalar | None) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sweep_name(script: Path) -> str:
    kept = re.sub(r"[^a-z0-9]+", "-", script.stem.lower()).strip("-")
    return kept[:63] or "script"
