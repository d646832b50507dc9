"""A sweep's tables as files for other programs: CSV, Parquet.

    export_tables(store, sweep_id, Path("out"), ExportFormat.CSV)

NaN and infinity are kept, a missing value is an empty field. In CSV, vectors and the causes of
effects are JSON.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from sickbay.service.analysis.effects import LevelEffect
from sickbay.service.analysis.study import sweep_effects
from sickbay.service.formats import ExportFormat
from sickbay.service.summary.table import flat_row
from sickbay.trials.store import Store, StoreError
from sickbay.trials.store.reader import load_tables
from sickbay.trials.store.schema import schema_of

TABLES = ("trials", "epochs", "findings")


def export_tables(
    store: Store, sweep_id: str, folder: Path, style: ExportFormat
) -> tuple[Path, ...]:
    """Write trials, epochs, findings and effects of a sweep as CSV or Parquet; returns their paths.

    Raises SweepError if there is no such sweep, StoreError if any part of it cannot be read or
    written.
    """
    assert style is not ExportFormat.LATEX, "LaTeX tables are reports"
    effects, _ = sweep_effects(store, sweep_id)
    flat = effects_table([] if effects is None else effects.table.effects)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tables = {**_tables(store, sweep_id), "effects": flat}
        return tuple(_write(table, folder, name, style) for name, table in tables.items())
    except OSError as error:
        raise StoreError(f"cannot export to {folder}: {error}") from error


def effects_table(effects: Sequence[LevelEffect]) -> pa.Table:
    """The effects as one row per level; NaN where unknown."""
    rows = [flat_row(effect) for effect in effects]
    return pa.table({name: [row[name] for row in rows] for name in _FLAT.names}, _FLAT)


_FLAT = schema_of(
    """
    factor level baseline verdict health_verdict conclusion
    pairs:int sound_pairs:int seeds:int contexts:int ranked_pairs:int unpaired:int ambiguous:int
    difference:float difference_low:float difference_high:float p_value:float p_holm:float
    iqm:float iqm_low:float iqm_high:float
    improvement:float improvement_low:float improvement_high:float
    improvement_p_value:float improvement_p_holm:float
    health_difference:float health_difference_low:float health_difference_high:float
    health_p_value:float health_p_holm:float
    healthy:int trials:int baseline_healthy:int baseline_trials:int
    healthy_low:float healthy_high:float baseline_healthy_low:float baseline_healthy_high:float
    causes baseline_causes left_out
    """
)


def _tables(store: Store, sweep_id: str) -> dict[str, pa.Table]:
    loaded = load_tables(store, TABLES, [sweep_id])
    if loaded.problems:
        raise StoreError(f"nothing was exported, because {'; '.join(map(str, loaded.problems))}")
    keys = ("trial_id", "epoch", "labeller_version", "detector")
    return {
        name: table.sort_by([(key, "ascending") for key in keys if key in table.column_names])
        for name, table in loaded.tables.items()
    }


def _write(table: pa.Table, folder: Path, name: str, style: ExportFormat) -> Path:
    path = folder / f"{name}.{style.value}"
    if style is ExportFormat.PARQUET:
        pq.write_table(table, path)
    else:
        pa.csv.write_csv(_without_lists(table), path)
    return path


def _without_lists(table: pa.Table) -> pa.Table:
    """Write vectors as JSON arrays: CSV has no lists."""
    for index, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            texts = [
                None if vector is None else json.dumps(vector)
                for vector in table[index].to_pylist()
            ]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
    return table
