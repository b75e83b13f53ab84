"""Synthetic pages with exact labels."""
