"""ECG paper and overlays."""
