"""How many files and connections the process may have open."""

import contextlib
import resource

# For model files, threads, and whatever else the process opens.
RESERVED_DESCRIPTORS = 256


def raise_descriptor_limit() -> int:
    """Lets this process open as many files and connections as the system allows it.

    Returns:
        How many these are.

    Example:
    ```python
    descriptors = raise_descriptor_limit()
    ```
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # "unlimited" on some systems
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft != resource.RLIM_INFINITY else 2**20


def share_of_a_port(descriptors: int) -> int:
    """Returns how many connections each of two ports may have, gRPC's and REST's.

    Args:
        descriptors: What `raise_descriptor_limit` returned.

    Example:
    ```python
    share_of_a_port(1024)  # 384
    ```
    """
    return max(descriptors - RESERVED_DESCRIPTORS, descriptors // 2) // 2
