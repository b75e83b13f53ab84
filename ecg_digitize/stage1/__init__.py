"""Stage 1: the 5 mm grid and the rectified page."""
