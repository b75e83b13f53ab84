"""Stage 1: the 5 mm grid and the rectified page.

In the order in which they are used:

* ``rectify.norm_image`` shows the page to the network, ``net`` marks the crossings there.
* ``grid`` gives them their row and column; ``surface`` puts a smooth surface through them.
* ``lines`` leads that surface on to the printed lines: by their ``phase``, outward from where it is
  right (``unwrap``), and along a scanner's ``feed``.
* ``timing`` moves columns on to the lines one by one, where paper was fed unevenly.
* ``rows`` says where the rows lie on sheets that are laid out otherwise.
* ``ripples`` follows folds and wrinkles between the crossings.
* ``pulses`` measures the calibration pulses, ``ends`` where the ink of the rows begins and ends.
* ``rectify.rectify`` takes the page that stage 2 reads from the original pixels.

``sight`` is what they share: the sheet as a frame shows it, and what is ink on it.
"""
