"""Using a checkpoint: load it, give it images, export it."""
