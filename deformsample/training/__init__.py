"""The training loop: tasks, callbacks, resuming and the run folder."""
