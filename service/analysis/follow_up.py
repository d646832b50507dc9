"""The follow-up sweep of a pathological trial, as a spec: confirms a fix, or tries new changes.

made = follow_up(store, fixes)        # a mapping that `validate` accepts, checked
write_spec(made, Path("fix-1a2b3c4d.yaml"))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sickbay.service.analysis.fixes import Fixes, LevelChange, words
from sickbay.service.query.lookup import SweepError, stored_spec
from sickbay.trials import registry
from sickbay.trials.contract import Scalar
from sickbay.trials.spec import load_spec, plan
from sickbay.trials.spec.command import COMMAND
from sickbay.trials.store import Store

FEWEST_SEEDS = 5
MOST_SEEDS = 10
KEPT = ("objective", "early_stop", "resources", "retries")  # keys of the stored spec
OF_A_SCRIPT = ("command", "facts", "metrics", "env", "working_dir")
WHOLE_GRID = 4  # changes together up to here are crossed: 16 arms


@dataclass(frozen=True)
class FollowUp:
    """A valid spec, the reason for it, and how many trials it plans."""

    spec: Mapping[str, Any]
    why: str
    trials: int
    has_trial: bool


def follow_up(store: Store, fixes: Fixes) -> FollowUp:
    """Make the sweep that confirms the known fixes, or tries the next candidates.

    Its baseline is the pathological trial itself. Changes of one setting each make a `one_factor`
    design; a change of several a `grid`, which shows which are needed, or `leave_one_out` where a
    grid would be large. Raises SweepError for a healthy trial or with nothing left to try;
    RegistryError if the workload is not installed.
    """
    if fixes.healthy:
        raise SweepError(f"trial {fixes.trial_id} is healthy: there is nothing to fix")
    options = [fix.changes for fix in fixes.known or fixes.next]
    if not options:
        raise SweepError(
            f"no fix of {fixes.trial_id} is known, and every change of one or two settings that "
            "this store or the workload knows of has been tried: add levels to the sweep's spec"
        )
    stored = stored_spec(store, fixes.sweep_id)
    shape, factors, used = _shape(options)
    if fixes.known:
        why = f"confirms that this fixes trial {fixes.trial_id}: {_listed(used)}"
    else:
        why = f"no fix of trial {fixes.trial_id} is known; tries {_listed(used)}"
    made = {
        "name": f"fix-{fixes.trial_id[:8]}",
        "workload": fixes.workload,
        "description": why,
        "design": shape,
        "factors": factors,
        "seeds": _seeds(fixes, stored),
        "fixed": {},
        **{
            key: stored[key]
            for key in (*KEPT, *(OF_A_SCRIPT if stored.get("command") else ()))
            if stored.get(key) is not None
        },
    }
    if "early_stop" in made:  # every trial must come to its end: no scheduler may prune it
        made["early_stop"] = {**made["early_stop"], "scheduler": "none"}
    kept = {**stored.get("fixed", {}), **dict.fromkeys(stored.get("factors", {}))}
    few = {key: fixes.config[key] for key in fixes.config if key in kept and key not in factors}
    every = {**few, **_unlike_defaults(fixes, factors)}
    made["fixed"] = few
    trials, has_trial = _planned(made, fixes)
    if not has_trial:  # defaults have changed since, or came from elsewhere: say them all
        made["fixed"] = every
        trials, has_trial = _planned(made, fixes)
    return FollowUp(made, why, trials, has_trial)


def workload_levels(name: str) -> dict[str, tuple[Scalar, ...]]:
    """List the levels that a workload's factors declare; none if it is not installed."""
    try:
        workload = registry.workload(name)
    except registry.RegistryError:
        return {}
    return {factor.name: factor.levels for factor in workload.factors}


def spec_text(made: FollowUp) -> str:
    """Write a spec as YAML with its reason above it."""
    import yaml  # noqa: PLC0415 - only this verb writes YAML

    body = yaml.safe_dump(dict(made.spec), sort_keys=False, allow_unicode=True, width=100)
    return f"# {made.why}\n# {made.trials} trials; run it with: sickbay run FILE\n{body}"


def write_spec(made: FollowUp, path: Path, *, replace: bool = False) -> None:
    """Write the spec file. Raises SweepError if there is one already and `replace` is not set."""
    if path.exists() and not replace:
        raise SweepError(
            f"{path} already exists: replace it with -y, or choose another file with --out"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(spec_text(made), encoding="utf-8")


def _shape(
    options: Sequence[tuple[LevelChange, ...]],
) -> tuple[str, dict[str, list[Scalar]], list[tuple[LevelChange, ...]]]:
    """Choose a design and its factors, the pathological level first, and the options used."""
    used: list[tuple[LevelChange, ...]]
    if len(options[0]) == 1:
        used = [changes for changes in options if len(changes) == 1]
        shape = "one_factor"
    else:
        used = [options[0]]
        shape = "grid" if len(options[0]) <= WHOLE_GRID else "leave_one_out"
    factors: dict[str, list[Scalar]] = {}
    for changes in used:
        for change in changes:
            if change.before is None or change.after is None:
                raise SweepError(
                    f"{change.setting} is a setting of only one of the trials: a spec cannot "
                    "remove it"
                )
            factors.setdefault(change.setting, [change.before]).append(change.after)
    return shape, factors, used


def _seeds(fixes: Fixes, stored: Mapping[str, Any]) -> list[int]:
    """Return at least five seeds: the trial's, the sweep's others, then new ones."""
    listed = stored.get("seeds") or []
    known = list(range(listed)) if isinstance(listed, int) else list(listed)
    seeds = list(dict.fromkeys([fixes.seed, *known]))[:MOST_SEEDS]
    spare = (seed for seed in range(len(seeds) + FEWEST_SEEDS) if seed not in seeds)
    while len(seeds) < FEWEST_SEEDS:
        seeds.append(next(spare))
    return sorted(seeds)


def _unlike_defaults(fixes: Fixes, factors: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return the trial's settings that differ from the workload's defaults and its size's."""
    if fixes.workload == COMMAND:  # a script has no defaults but its own
        return {key: level for key, level in fixes.config.items() if key not in factors}
    workload = registry.workload(fixes.workload)
    size = str(fixes.config.get("size", workload.defaults.get("size", "")))
    plain = {**workload.defaults, **workload.sizes.get(size, {})}
    return {
        key: level
        for key, level in fixes.config.items()
        if key not in factors and (key not in plain or plain[key] != level)
    }


def _planned(made: Mapping[str, Any], fixes: Fixes) -> tuple[int, bool]:
    """Check a spec; count its trials, and tell whether the original is among them."""
    spec, workload = load_spec(made, registry.workload)
    trials = plan.plan(spec, workload).trials
    return len(trials), any(trial.trial_id == fixes.trial_id for trial in trials)


def _listed(options: Sequence[tuple[LevelChange, ...]]) -> str:
    return "; ".join(words(changes) for changes in options)
