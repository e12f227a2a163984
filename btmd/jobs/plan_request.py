"""What inspections found out, in the form that a plan is made from."""

from btmd.inspection.facts import DatasetFacts
from btmd.inspection.facts import TokenFacts as MeasuredTokens
from btmd.planning import TokenFacts


def to_token_facts(measured: MeasuredTokens, dataset: DatasetFacts) -> TokenFacts:
    """The planner's token facts; rows that the chat template does not take count as rows with nothing to learn."""
    over_long = {step: 0 for step in sorted(measured.histogram)}
    for step in over_long:
        over_long[step] = sum(count for length, count in measured.histogram.items() if length > step)
    over_long |= {entry.max_length: entry.rows_over for entry in measured.over}
    return TokenFacts(
        rows=measured.rows,
        total_tokens=measured.tokens_total,
        learned_tokens=measured.learned_tokens,
        longest_row=measured.longest,
        over_long=over_long,
        rows_without_learned=measured.rows_nothing_learned + measured.rows_refused,
        train_rows=dataset.rows_kept - dataset.rows_held_out if dataset.has_split else None,
        held_out_rows=dataset.rows_held_out if dataset.has_split else None,
        kind=dataset.row_kind,
    )
