"""Stage 2: traces on the rectified page, and their decoding.

In the order in which they are used:

* ``whole`` marks the four traces of the competition's page; ``series`` is another network for it
  (``members``), and ``strip`` marks one row of any other sheet.
* ``decode`` finds a line for each row: ``ink`` says what the paper shows, ``ridges`` finds the best
  path, ``apart`` keeps rows apart, ``gaps`` fills what is left out.
* ``refine`` moves the lines onto the middle of the ink.
"""
