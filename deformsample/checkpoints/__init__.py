"""Checkpoints: reading them without executing code, and building models from them."""
