"""What heals a trial, in sentences for a person."""

from collections.abc import Iterator

from sickbay.service.analysis.fixes import Fixes, words


def fix_lines(found: Fixes) -> Iterator[str]:
    """Say the smallest changes that are healthy in the store, or what to try next; none if well."""
    if found.healthy:
        return
    if found.known:
        yield "the smallest change that is healthy in this store, in all of its seeds:"
        for fix in found.known:
            weak = "" if fix.own_seed else f"; seed {found.seed} is not among them"
            yield (
                f"  {words(fix.changes)}: healthy in {fix.healthy}/{fix.of}"
                f" (95 %: at least {100 * fix.low:.0f} %{weak})"
            )
        return
    yield (
        f"none of {found.configurations} configurations of this workload in the store is healthy "
        "in all of its trials: no fix is known yet"
    )
    if not found.next:
        yield "every smaller change that the store knows of has been tried"
        return
    yield f"worth trying next (sickbay fix {found.trial_id[:8]} writes the spec):"
    for one in found.next:
        yield f"  {words(one.changes)}: {one.reason}"
