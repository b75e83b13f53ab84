"""Stage 2: traces on the rectified page, and their decoding."""
