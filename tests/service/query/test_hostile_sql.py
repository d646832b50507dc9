"""SQL from a hostile generator: no file is read or written, nothing crashes, nothing hangs."""

import json
import os
import random
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hostile_sql import hostile

from sickbay.service.query.engine import Limits, QueryError
from sickbay.service.query.pool import PoolRules, QueryPool
from sickbay.trials.store import open_store

# `HOSTILE_STRINGS=10000 HOSTILE_SECONDS=2` is the published figure.
STRINGS = int(os.environ.get("HOSTILE_STRINGS", "60"))
SECONDS = float(os.environ.get("HOSTILE_SECONDS", "0.3"))
LATEST = 2.0  # seconds after its time is over at which a query is over
AT_ONCE = 2
CANARY = "yellow-bird-81923"
KINDS = {
    "took longer than": "out of time",
    "more memory than": "out of memory",
    "broke its process": "crashed",
    "larger than": "too large",
}


@pytest.fixture(scope="module")
def store(swept_copy):
    return open_store(str(swept_copy))


class Timed(QueryPool):
    """Times each query from when its process begins with it, as its limit does."""

    def _answer(self, process, request, *limits):
        began = time.monotonic()
        try:
            return super()._answer(process, request, *limits)
        finally:
            took[json.loads(request)["sql"]] = time.monotonic() - began


took = {}


@pytest.fixture
def pool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the processes stand, too
    (tmp_path / "canary.csv").write_text(f"bird\n{CANARY}\n")
    made = Timed(PoolRules(processes=AT_ONCE, grace=0.5))
    made.open()
    yield made
    made.close()


@pytest.mark.timeout(4 * 3600)
def test_hostile_strings_read_and_write_nothing(store, pool, tmp_path):
    source = random.Random(20261121)
    texts = [hostile(source) for _ in range(STRINGS)]
    secrets = [line for line in Path("/etc/passwd").read_text().splitlines() if line]
    secrets += [CANARY, os.environ["HOME"]]
    stored = files(Path(store.root))
    limits = Limits(memory="256MB", threads=1, seconds=SECONDS, rows=100)
    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        ended = list(threads.map(lambda text: outcome(pool, store, text, limits), texts))
    counts = Counter(kind for kind, _ in ended)
    print(
        f"{STRINGS} strings in {time.monotonic() - began:.0f} s: {dict(counts)},"
        f" the slowest took {max(took.values()):.2f} s"
    )
    for text, (_, said) in zip(texts, ended, strict=True):
        # A mistake's message quotes the SQL, but no more.
        assert not [secret for secret in secrets if secret in said.replace(text, "")], text
    assert took.keys() == set(texts)
    assert [text for text in texts if took[text] > SECONDS + LATEST] == []
    crashed = [text for text, ending in zip(texts, ended, strict=True) if ending[0] == "crashed"]
    assert crashed == []
    assert sum(counts.values()) == STRINGS
    assert counts["ok"] > STRINGS / 50  # the generator reaches the tables, too
    assert [path.name for path in tmp_path.iterdir()] == ["canary.csv"]
    assert not Path("/tmp/sickbay-hostile").exists()
    assert files(Path(store.root)) == stored
    assert b"[[4]]" in pool.ask(store, "SELECT count(*) FROM trials", Limits())


def outcome(pool, store, text, limits):
    """What became of a string, and the answer or the message."""
    try:
        said, kind = pool.ask(store, text, limits).decode(), "ok"
    except QueryError as error:
        said = str(error)
        kinds = [name for phrase, name in KINDS.items() if re.search(rf"the .*{phrase}", said)]
        kind = kinds[0] if kinds else "refused"
    return kind, said


def files(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
