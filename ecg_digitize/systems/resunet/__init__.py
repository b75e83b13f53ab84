"""A mask of the trace by a residual U-Net with attention, scanned column by column.

Made anew after X. Yu, Y. Huang, J. Wu, J. Wang and W. Cai, "From Paper to Digital: ECG Processing
with U-Net Digitization and ResNet Classification", Computing in Cardiology 2024 (team USST_Med).

* ``page``: the lead names give the tilt, and the page is seen upright, grey, 1100 x 850 px.
* ``net``: the network, which takes that picture apart into four and its mask together out of four.
* ``decode``: the mask to the lines of the rows; ``pulse``: the gain, by the calibration pulses.
* ``read``: all of it in turn. ``training`` and ``judge`` are for training and its F1.
"""
