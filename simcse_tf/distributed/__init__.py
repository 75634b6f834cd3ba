"""Devices, replicas and workers, and what they tell each other."""
