"""Devices, replicas and workers, and what they exchange."""
