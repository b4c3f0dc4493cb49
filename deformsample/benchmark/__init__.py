"""Comparing methods: train all of them, measure all of them, put them in one table."""
