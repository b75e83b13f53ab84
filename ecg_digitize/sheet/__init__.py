"""Sheets of any layout: what is printed where, found on the sheet itself, and how it is read.

In the order in which they are used:

* ``scale``: the printed squares, and so the scale and the turn of the sheet; ``tiles`` finds
  periods in parts of the picture, ``line_view`` looks along the lines.
* ``flat``: the sheet laid flat, and the ink on it.
* ``names_net``, ``names``: the lead names, wherever they stand; ``text_net``, ``text``: lines of
  text.
* ``rows``: the baselines, where ink is densest or a name has none.
* ``sift``: what looks like a row and is none.
* ``match``: the layout (``ecg_digitize.layouts``) that explains names and rows.
* ``places``: where the leads begin and end.
* ``find``: all of the above, one after the other.
* ``bent``: the same on paper that bends.
* ``marks``, ``marked``: where everything lies, as somebody marked it in the picture, and the sheet
  that follows from it.
* ``calibration``: speed and gain, by the pulses.
* ``read``: the rows, one at a time, and each lead in its time.
* ``leftover``: ink that no row was led through.
"""
