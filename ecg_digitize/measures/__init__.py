"""Figures that a clinician reads, measured on the signals: research figures, not for diagnosis.

``measure`` is the door. ``beats`` finds the beats and each lead's median beat, ``synchrony`` checks
that the columns of a print are of the same moments, ``waves`` says where P, QRS and T begin and
end, ``figures`` makes rate, intervals, axis and ST of that, and ``table`` writes them as a csv.
neurokit2 (extra `measures`) is imported when a page is measured.
"""

from ecg_digitize.measures.figures import FIGURES, NOTE, Measures, measure

__all__ = ["FIGURES", "NOTE", "Measures", "measure"]
