"""Printed logs: `epoch 3 loss 0.5`, Keras' bars, the Trainer's dicts, nanoGPT's lines.

One grammar serves all of them: a key of words, a separator, a number. A word for a split before a
pair (`valid | loss 0.5`, `Test set: Average loss: 0.04`) holds for the pairs after it in that line;
an epoch stands until the next. Only keys that mean something are kept, so times, sizes and paths
fall away.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from sickbay.trials.logs.log import RawLog
from sickbay.trials.logs.signal_names import (
    NOISE,
    is_epoch,
    is_evaluated,
    is_loss,
    is_measure,
    is_split,
    is_step,
    split_of,
    words,
)

NUMBER = (
    r"[-+]?(?:\d+(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?"
    r"|nan|inf(?:inity)?)"
)
WORD = r"[A-Za-z_][\w./@()\[\]-]*?"
PAIR = re.compile(
    rf"(?<![\w./])(?P<key>{WORD}(?:\ {WORD}){{0,4}}?)['\"]?"
    rf"(?:\s*(?:[:=]|[-=]>)\s*|\s+-\s+|\s+is\s+|\s+|\s*(?=\[))['\"(\[]?\s*(?:[\w.]+\()?"
    rf"(?P<value>{NUMBER})(?:\s*/\s*(?P<of>\d+))?(?P<percent>\s*%)?(?![\w])(?!\.\d)",
    re.IGNORECASE,
)
BOX_ROW = re.compile(rf"\|\s*([A-Za-z_][\w/ .]*?)\s*\|\s*({NUMBER})\s*\|", re.IGNORECASE)
BOX_HEAD = re.compile(r"\|\s*([A-Za-z_]\w*/)\s*\|\s*\|")
DECIMAL_COMMA = re.compile(r"[:=]\s*\d+,(?!\d{3}\b)\d+\b")  # not `1,000`
DECIMAL_POINT = re.compile(r"\d\.\d")
OBJECT = re.compile(r"\{[^{}]*\}")
BOOSTING = re.compile(r"^\s*(?:\[(\d+)\]|(\d+):)\s")
BATCHES = re.compile(r"\s*\[\s*\d+/\d+")
HEADING = re.compile(r"\s*\w+(?: \w+){0,2}:\s*")  # `Test Error:`, with the numbers in the next line
DARKNET = re.compile(rf"\s*(\d+): ({NUMBER}), ({NUMBER}) avg", re.IGNORECASE)
STARRED = re.compile(r"\s*\*\s+[A-Za-z]")  # torchvision's ` * Acc@1 76.13` ends a validation
UNFINISHED = re.compile(r"\bETA\b")
PYTHON = {
    "-nan": "NaN",
    "nan": "NaN",
    "-inf": "-Infinity",
    "inf": "Infinity",
    "None": "null",
    "True": "true",
    "False": "false",
}
LONGEST_LINE = 5000


def read_printed(text: str) -> RawLog | None:
    """Read a printed log; None if no line of it names a measure and its number."""
    rows: list[dict[str, Any]] = []
    remarks: tuple[str, ...] = ()
    if DECIMAL_COMMA.search(text) and not DECIMAL_POINT.search(text):
        text = re.sub(r"(?<=\d),(?=\d)", ".", text)
        remarks = ("commas were read as decimal points",)
    epoch: Any = None
    split: str | None = None
    for line in _lines(text):
        if HEADING.fullmatch(line):
            split = split_of(line)
            continue
        row = _object(line) or _pairs(line, split)
        split = None if row else split
        epoch = next((value for name, value in row.items() if is_epoch(name)), epoch)
        if any(is_measure(name) for name in row):
            if epoch is not None and not any(map(is_epoch, row)):
                row = {"epoch": epoch, **row}
            rows.append(row)
    rows = rows or list(_boxes(text))
    return RawLog("a printed log", tuple(rows), remarks) if rows else None


def _lines(text: str) -> Iterator[str]:
    """The lines as last shown: only the last state of a progress bar."""
    for line in text.split("\n"):
        states = [state for state in re.split(r"[\r\x08]+", line) if state.strip()]
        if states and not (UNFINISHED.search(states[-1]) and "/" in states[-1] and "ETA:" in line):
            yield states[-1][:LONGEST_LINE]


def _object(line: str) -> dict[str, Any]:
    """A dict or JSON object within a line, with the split named before it."""
    match = OBJECT.search(line)
    if match is None:
        return {}
    body = match[0].replace("'", '"')
    for python, plain in PYTHON.items():
        body = re.sub(rf"(?<=[\s:,\[]){python}\b", plain, body)
    try:
        row = json.loads(body)
    except ValueError:
        return {}
    split = split_of(line[: match.start()])
    return {_called(str(name), split): value for name, value in row.items()}


def _pairs(line: str, split: str | None = None) -> dict[str, Any]:
    """The named numbers of a line below a heading of that split."""
    row: dict[str, Any] = {}
    split = "val" if STARRED.match(line) else split
    loss_split: str | None = None  # of the loss before: `train loss 0.5, acc 0.9`
    end = 0
    darknet = DARKNET.match(line)
    if darknet:
        return {"iteration": darknet[1], "loss": darknet[2], "avg_loss": darknet[3]}
    boosted = BOOSTING.match(line)
    if boosted:
        row["iteration"] = boosted[1] or boosted[2]
    for pair in PAIR.finditer(line):
        split = split_of(line[end : pair.start()]) or split
        end = pair.end()
        head, bracket, tail = pair["key"].partition("]")
        closed = bracket and "[" not in head  # ESPnet's `[valid] loss=0.5`
        split = (split_of(head) if closed else None) or split
        key = _key(tail.lstrip(" [") if closed else pair["key"])
        if key is None or is_split(key):  # `Test: [ 0/196]`
            split = split_of(pair["key"]) or split
            if BATCHES.match(line, pair.end("value")):  # timm's `Train: 3 [ 0/196 (0%)]`
                row.setdefault("epoch", pair["value"])
            elif (
                key and boosted and "." in pair["value"]
            ):  # CatBoost's `0:  learn: 0.69  test: 0.70`
                row.setdefault(pair["key"], pair["value"])
            continue
        if is_epoch(key) or is_step(key):  # `iter 2920: …` and `step 3000: …` count the same
            split = split_of(pair["key"]) or split
            row.setdefault("epoch" if is_epoch(key) else "step", pair["value"])
            continue
        if is_loss(key):
            loss_split = split_of(key)
        follows = loss_split if is_evaluated(key) else None
        row.setdefault(_called(key, split or follows), _value(pair))
    return row


def _value(pair: re.Match[str]) -> str:
    """`98 %` is 98 per cent, `9836/10000` a share."""
    total = float(pair["of"]) if pair["of"] else 0.0
    if total:
        return repr(float(pair["value"].replace(",", "")) / total)
    return pair["value"] + ("%" if pair["percent"] else "")


def _key(text: str) -> str | None:
    """The meaning of a name: its longest known ending, without the log's own prefix."""
    parts = text.split()
    while len(parts) > 1 and words(parts[0]) in NOISE:
        parts = parts[1:]
    names = (" ".join(parts[start:]) for start in range(len(parts)))
    return next((n for n in names if is_epoch(n) or is_step(n) or is_measure(n)), None)


def _called(name: str, split: str | None) -> str:
    counter = is_epoch(name) or is_step(name)
    return name if split is None or counter or split_of(name) else f"{split}/{name}"


def _boxes(text: str) -> Iterator[dict[str, Any]]:
    """Stable-Baselines' boxes: `| ep_rew_mean | 22.2 |`, one box a record."""
    row: dict[str, Any] = {}
    above = ""
    for line in text.splitlines():
        head, cell = BOX_HEAD.search(line), BOX_ROW.search(line)
        if head:
            above = head[1]
        elif cell:
            row[above + cell[1]] = cell[2]
        elif row:
            yield row
            row, above = {}, ""
    if row:
        yield row
