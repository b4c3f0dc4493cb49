"""Numbers from predictions and ground truth."""
