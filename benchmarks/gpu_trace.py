"""What a GPU did while TensorFlow's profiler looked on, for `gpu.py`."""

from pathlib import Path
from typing import Any

DERIVED = ("XLA", "TensorFlow", "Framework", "Steps", "Launch", "Source")


def summary(trace: Path, steps: int) -> dict[str, float]:
    """Kernels, copies and busy milliseconds of a step, from a `.xplane.pb` file.

    A moment in which several kernels run counts once.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace.FromString(trace.read_bytes())
    events = [
        (name.lower(), start, start + length)
        for plane in space.planes
        if plane.name.startswith("/device:GPU")
        for name, start, length in _events(plane)
    ]
    is_copy = [("memcpy" in name or "memset" in name) for name, _, _ in events]
    busy = end = 0.0
    for _, start, stop in sorted(events, key=lambda event: event[1]):
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return {
        "kernels_a_step": (len(events) - sum(is_copy)) / steps,
        "copies_a_step": sum(is_copy) / steps,
        "busy_ms_a_step": busy / 1e6 / steps,
    }


def _events(plane: Any) -> Any:
    """Names, starts and lengths in nanoseconds of what ran on the streams."""
    for line in plane.lines:
        # Some repeat the kernels under the names of modules and operations.
        if not line.name.startswith(DERIVED):
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                start = line.timestamp_ns + event.offset_ps / 1e3
                yield name, start, event.duration_ps / 1e3
