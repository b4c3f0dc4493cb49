"""What methods are worth and what they cost."""
