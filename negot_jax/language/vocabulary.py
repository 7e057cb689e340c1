"""How an automaton over bytes becomes one over the tokens of a vocabulary."""

from collections.abc import Callable, Sequence

import numpy as np

EMPTY = 0  # The class of the tokens without bytes.


def classes(
    token_bytes: Sequence[bytes], empty: np.ndarray, then: Callable[[np.ndarray, int], np.ndarray]
) -> tuple[list[np.ndarray], list[int]]:
    """Sorts tokens by what they do in every state.

    Each distinct column is composed once, through a trie of prefixes whose nodes are columns.

    Args:
      token_bytes: what each token stands for, V byte strings.
      empty: what the empty string does, a column over the states. then: what a string and one more byte do, from the
        string's column and the byte; equal columns must be equal bytes.

    Returns:
      The distinct columns of all tokens, the empty string's first, and each token's index among them.
    """
    nodes, children = [empty], [{}]
    index = {empty.tobytes(): EMPTY}
    ends = []
    for text in token_bytes:
        node = EMPTY
        for byte in text:
            child = children[node].get(byte)
            if child is None:
                column = then(nodes[node], byte)
                child = index.setdefault(column.tobytes(), len(nodes))
                if child == len(nodes):
                    nodes.append(column)
                    children.append({})
                children[node][byte] = child
            node = child
        ends.append(node)
    used = [EMPTY, *sorted(set(ends) - {EMPTY})]
    renumbered = {node: i for i, node in enumerate(used)}
    return [nodes[node] for node in used], [renumbered[node] for node in ends]
