"""Accuracy and cost of methods."""
