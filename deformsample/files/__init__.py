"""Files in and out: checked first, written whole, as arrays."""
