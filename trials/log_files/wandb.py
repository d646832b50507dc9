"""W&B's offline run file `run-ID.wandb`, read without the package wandb.

The file is a LevelDB log (blocks of 32 KiB, records with a checksum, a length and a kind) of
protocol buffers. Of those only the history is read: message `Record`, field 2 `HistoryRecord`, its
field 1 `HistoryItem` with the fields 1 `key`, 2 `nested_key` and 16 `value_json`.
Sources: https://github.com/google/leveldb/blob/main/doc/log_format.md and
https://github.com/wandb/wandb/blob/main/wandb/proto/wandb_internal.proto
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sickbay.trials.logs.log import LogError, RawLog

MAGIC = b":W&B"
FILE_HEAD = 7
BLOCK = 32 * 1024
RECORD_HEAD = struct.Struct("<IHB")  # checksum, length, kind
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers


def is_wandb(path: Path) -> bool:
    """Whether a file is an offline run of W&B, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_wandb(path: Path) -> RawLog:
    """The history of an offline run as rows; raises LogError for a file without one.

    What a killed run left half-written at the end is left out.
    """
    rows = []
    try:
        for record in _records(path.read_bytes()):
            rows += [_row(value) for field, value in _fields(record) if field == 2]
    except (IndexError, struct.error, ValueError) as error:
        if not rows:
            raise LogError(f"{path} is a broken W&B run file: {error}") from error
    if not rows:
        raise LogError(f"{path} is a W&B run without history: nothing was logged")
    return RawLog("a W&B offline run", tuple(rows))


def _records(data: bytes) -> Iterator[bytes]:
    place, parts = FILE_HEAD, b""
    while place + RECORD_HEAD.size <= len(data):
        if BLOCK - place % BLOCK < RECORD_HEAD.size:  # the rest of a block is padding
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = RECORD_HEAD.unpack_from(data, place)
        place += RECORD_HEAD.size
        parts = (b"" if kind in {FULL, FIRST} else parts) + data[place : place + length]
        place += length
        if kind in {FULL, LAST}:
            yield parts


def _row(history: bytes) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for field, item in _fields(history):
        if field != 1:
            continue
        names: list[str] = []
        value: Any = None
        for part, content in _fields(item):
            if part in {1, 2}:
                names.append(content.decode(errors="replace"))
            elif part == 16:
                value = json.loads(content)
        row["/".join(name for name in names if name)] = value
    return row


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message that hold bytes, with their numbers; others are skipped."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        wire = key & 7
        if wire == VARINT:
            _, place = _varint(message, place)
        elif wire == BYTES:
            length, place = _varint(message, place)
            yield key >> 3, message[place : place + length]
            place += length
        elif wire in {FIXED64, FIXED32}:
            place += 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {wire}")


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
