"""Data sets, one file layout each."""
