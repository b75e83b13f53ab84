"""Sheets of any layout: where their grid, their rows and their leads lie in a picture."""
