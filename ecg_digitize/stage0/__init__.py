"""Stage 0: keypoints and orientation, the sheet in the picture."""
