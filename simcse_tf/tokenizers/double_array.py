"""A trie of strings of symbols as a double array, built with NumPy."""

from typing import NamedTuple

import numpy as np

NO_KEY = -1
# A node without children. No unit names it as its parent.
LEAF = 0

_NO_PARENT = -1
_MAX_FAILURES = 50
_SPACE = 2.2  # units a node: sparse enough to find places at random


class DoubleArray(NamedTuple):
    """A node is the base of its children: symbol `s` leads from base `b` to unit `b + s`.

    Attributes:
        root: int. The root's base.
        parents: int32 array of shape `[units]`. The base that leads to each unit, or
            -1. Only if it is the base that one came from does the way exist.
        bases: int32 array of shape `[units]`. The base of the node at each unit.
        keys: int32 array of shape `[units]`. The number of the string that ends at
            each unit, or -1.
    """

    root: int
    parents: np.ndarray
    bases: np.ndarray
    keys: np.ndarray


class _Nodes(NamedTuple):
    """All nodes but the root, which is number 0; the others follow level by level."""

    parents: np.ndarray
    symbols: np.ndarray
    keys: np.ndarray


def build_double_array(
    symbols: np.ndarray, lengths: np.ndarray, alphabet: int
) -> DoubleArray:
    """Builds the trie of some strings.

    Args:
        symbols: int array. The symbols of all strings, one string after the other;
            each greater than 0.
        lengths: int array of shape `[strings]`. Their lengths, greater than 0. No two
            strings are equal.
        alphabet: int. Greater than any symbol that will be looked up.

    Returns:
        `DoubleArray`.

    Example:

    ```python
    trie = build_double_array(np.array([1, 1, 2]), np.array([1, 2]), alphabet=3)
    unit = trie.root + 1
    trie.parents[unit] == trie.root, trie.keys[unit]  # True, 0
    ```
    """
    nodes = _nodes(symbols, lengths, alphabet)
    order = np.argsort(nodes.parents[1:], kind="stable") + 1
    owners, begins, counts = np.unique(
        nodes.parents[order], return_index=True, return_counts=True
    )
    size = int(len(nodes.parents) * _SPACE) + 2 * alphabet + 64
    while (bases := _place(nodes.symbols[order], begins, counts, size - alphabet)) is None:
        size *= 2

    base_of = np.full(len(nodes.parents), LEAF, np.int32)
    base_of[owners] = bases
    parents = np.full(size, _NO_PARENT, np.int32)
    next_bases = np.full(size, LEAF, np.int32)
    keys = np.full(size, NO_KEY, np.int32)
    units = base_of[nodes.parents[1:]] + nodes.symbols[1:]
    parents[units] = base_of[nodes.parents[1:]]
    next_bases[units] = base_of[1:]
    keys[units] = nodes.keys[1:]
    return DoubleArray(int(base_of[0]), parents, next_bases, keys)


def _nodes(symbols: np.ndarray, lengths: np.ndarray, alphabet: int) -> _Nodes:
    begins = np.cumsum(lengths) - lengths
    parents, values, keys = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)], []
    keys.append(np.full(1, NO_KEY))
    strings = np.arange(len(lengths))
    node = np.zeros(len(lengths), np.int64)
    count, depth = 1, 0
    while len(strings):
        step = symbols[begins[strings] + depth].astype(np.int64)
        level, inverse = np.unique(node * alphabet + step, return_inverse=True)
        depth += 1
        ends = lengths[strings] == depth
        level_keys = np.full(len(level), NO_KEY)
        level_keys[inverse[ends]] = strings[ends]
        parents.append(level // alphabet)
        values.append(level % alphabet)
        keys.append(level_keys)
        node = (inverse + count)[~ends]
        strings = strings[~ends]
        count += len(level)
    return _Nodes(*map(np.concatenate, (parents, values, keys)))


def _place(
    symbols: np.ndarray, begins: np.ndarray, counts: np.ndarray, highest: int
) -> np.ndarray | None:
    """Finds a base up to `highest` for each node, with places for its children alone.

    Nodes with many children come first, while there is room. All nodes with about
    as many draw bases at random, together; those that collide draw again. `None` if
    there is no room in sight.
    """
    random = np.random.default_rng(0)
    size = highest + int(symbols.max(initial=0)) + 1
    taken = np.zeros(size, bool)
    is_base = np.zeros(size, bool)
    is_base[LEAF] = True
    bases = np.zeros(len(begins), np.int64)
    # Nodes of 2**k to 2**(k+1) - 1 children, from the largest k down.
    groups = np.frexp(counts)[1] if len(counts) else np.zeros(0, int)
    for group in sorted(set(groups.tolist()), reverse=True):
        pending = np.flatnonzero(groups == group)
        failures = 0
        while len(pending):
            if failures > _MAX_FAILURES:
                return None
            drawn = random.integers(1, highest, len(pending))
            owner = np.repeat(np.arange(len(pending)), counts[pending])
            first = np.cumsum(counts[pending]) - counts[pending]
            child = np.arange(len(owner)) - first[owner] + begins[pending][owner]
            places = drawn[owner] + symbols[child]
            claims = np.full(size, -1)
            claims[places] = owner
            free = ~taken[places] & (claims[places] == owner)
            claims[:] = -1
            claims[drawn] = np.arange(len(pending))
            alone = ~is_base[drawn] & (claims[drawn] == np.arange(len(pending)))
            fits = np.logical_and.reduceat(free, first) & alone
            taken[places[fits[owner]]] = True
            is_base[drawn[fits]] = True
            bases[pending[fits]] = drawn[fits]
            pending = pending[~fits]
            failures = 0 if fits.any() else failures + 1
    return bases
