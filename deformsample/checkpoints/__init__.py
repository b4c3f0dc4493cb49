"""What a checkpoint holds: read without running code, and built."""
