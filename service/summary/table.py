"""The effects of a sweep as flat rows, for files that other programs read."""

import json
from typing import Any

from sickbay.service.analysis.effects import LevelEffect, Side
from sickbay.service.summary.formatting import level


def flat_row(one: LevelEffect) -> dict[str, Any]:
    """One level as a flat row of a table; counts by cause are JSON."""
    same = ("factor", "pairs", "sound_pairs", "seeds", "contexts", "ranked_pairs", "unpaired")
    return {
        **{name: getattr(one, name) for name in (*same, "ambiguous", "p_holm")},
        "level": level(one.level),
        "baseline": level(one.baseline),
        "verdict": one.verdict.value,
        "difference": one.difference.mean,
        "difference_low": one.difference.low,
        "difference_high": one.difference.high,
        "p_value": one.difference.p_value,
        "iqm": one.iqm.mean,
        "iqm_low": one.iqm.low,
        "iqm_high": one.iqm.high,
        "improvement": one.improvement.value,
        "improvement_low": one.improvement.low,
        "improvement_high": one.improvement.high,
        "improvement_p_value": one.improvement.p_value,
        "improvement_p_holm": one.improvement_p_holm,
        **_flat_side("", one.of_level),
        **_flat_side("baseline_", one.of_baseline),
        "left_out": json.dumps(dict(one.left_out)),
    }


def _flat_side(prefix: str, side: Side) -> dict[str, Any]:
    return {
        f"{prefix}healthy": side.healthy,
        f"{prefix}trials": side.trials,
        f"{prefix}healthy_low": side.low,
        f"{prefix}healthy_high": side.high,
        f"{prefix}causes": json.dumps(dict(side.causes)),
    }
