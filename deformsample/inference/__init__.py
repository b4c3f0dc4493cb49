"""Loading, using and exporting checkpoints."""
