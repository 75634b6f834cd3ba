"""JSON that a client may send, right or wrong."""

import string

from hypothesis import strategies as st

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["float", "base64", "query", "document", "m"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(string.ascii_letters, max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def bodies(fields):
    """Any value, and objects with these fields more often than with others."""
    return values | st.dictionaries(st.sampled_from(fields), values)
