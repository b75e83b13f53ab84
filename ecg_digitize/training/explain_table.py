"""What pages are lost to, as a table to read."""

from collections.abc import Mapping, Sequence
from typing import Final

from ecg_digitize.training.explain import Explanation, Worth, mean

_HEAD: Final = (
    f"{'SNR':>6} {'gain':>6} {'back':>6} {'slow':>6} {'back':>6} {'late':>6} {'back':>6} "
    f"{'shared':>6} {'back':>6} {'own':>6} {'back':>6} {'QRS':>4} {'first':>6} {'back':>6} "
    f"{'second':>6} {'back':>6}"
)
_UNITS: Final = (
    f"{'dB':>6} {'x':>6} {'dB':>6} {'mV':>6} {'dB':>6} {'ms':>6} {'dB':>6} "
    f"{'ms':>6} {'dB':>6} {'ms':>6} {'dB':>6} {'%':>4} {'':>6} {'dB':>6} {'':>6} {'dB':>6}"
)
_LEGEND: Final = """\
What is lost to what. Each "back" is the dB that the page's score rises by if the error named to its
left alone is undone. The rises overlap, so they do not add up.
gain    read over truth, one factor a page
slow    RMS of the error below about 1 Hz
late    one delay of the whole page
shared  RMS of a smooth delay, undone in each row by the beats of the other rows
own     RMS of a smooth delay of each row, undone by its own beats
QRS     share of the error that lies within 60 ms of a QRS
first   coefficient of the truth's first difference in that error; positive: late
second  of its second difference; negative: tips come short
"""


def to_text(
    pages: Sequence[tuple[str, Explanation]], by_kind: Mapping[str, Sequence[Explanation]]
) -> str:
    """Return the table: one row a page, then the means of each kind and of all.

    Args:
        pages: Name and figures of each, at least one.
        by_kind: Figures of the same pages, by kind.
    """
    lines = [_LEGEND, f"{_HEAD}  page, without cap", _UNITS]
    lines += [f"{_row(explanation)}  {name}" for name, explanation in pages]
    everything = [explanation for _, explanation in pages]
    means = {kind: mean(members) for kind, members in {**by_kind, "all": everything}.items()}
    for title, capped in (("without cap", False), ("capped", True)):
        lines += ["", f"{_HEAD}  mean of a kind, {title}"]
        lines += [f"{_row(figures, capped=capped)}  {kind}" for kind, figures in means.items()]
    return "\n".join(lines) + "\n"


def _row(explanation: Explanation, *, capped: bool = False) -> str:
    def back(worth: Worth) -> str:
        return f"{worth.capped_db if capped else worth.db:+6.2f}"

    e = explanation
    return (
        f"{e.snr_capped_db if capped else e.snr_db:6.2f} {e.gain:6.3f} {back(e.gain_worth)} "
        f"{e.slow_mv:6.3f} {back(e.slow_worth)} {e.late_ms:+6.2f} {back(e.late_worth)} "
        f"{e.shared_ms:6.2f} {back(e.shared_worth)} {e.own_ms:6.2f} {back(e.own_worth)} "
        f"{100 * e.qrs_share:4.0f} {e.first:+6.2f} {back(e.first_worth)} "
        f"{e.second:+6.2f} {back(e.second_worth)}"
    )
