"""The data sets, one layout of files each."""
