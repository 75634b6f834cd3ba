"""What a training step minimizes, and how its gradient is taken."""
