"""Training scripts, evaluation, export and benchmark."""
