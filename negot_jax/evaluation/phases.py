"""The four phases of training that the paper describes, found by a criterion on the curves.

  1 naive: the opening price stays where it began.
  2 aggressive opening: it has fallen.
  3 deadlock: the deal rate dips after that.
  4 persuasion: the deal rate comes back while the buyer keeps its share of the surplus.

A phase begins where a smoothed curve has made half of its move. It counts only if the move exceeds the noise of the
smoothed curve, and only after the phase before it. Where none is found, none is named.
"""

from typing import NamedTuple

import numpy as np

LEAST = 0.03  # The smallest move of a ratio or rate that counts, however little noise there is.
_ERRORS = 4.0  # Standard errors of the smoothed curve that a move must exceed.


class Phase(NamedTuple):
    """name: as above. start: the first iteration, an index of the curves."""

    name: str
    start: int


def find(opening_T: np.ndarray, deal_rate_T: np.ndarray, share_T: np.ndarray) -> list[Phase]:
    """The phases of a run, in order; [] where the opening price never falls.

    opening_T: first offer / budget. deal_rate_T: of episodes. share_T: bargained ratio in deals. By iteration, nan
    where there is no value.
    """
    (opening, falls), (deals, dips), (share, drops) = map(_smoothed, (opening_T, deal_rate_T, share_T))
    if not (fall := opening[0] - _least(opening)) > falls:
        return []
    aggressive = _first(opening <= opening[0] - fall / 2, 0)
    found = [Phase("naive", 0), Phase("aggressive opening", aggressive)]
    bottom = aggressive + int(np.nanargmin(deals[aggressive:]))
    top = aggressive + int(np.nanargmax(deals[aggressive : bottom + 1]))
    if not (dip := deals[top] - deals[bottom]) > dips:
        return found
    found.append(Phase("deadlock", _first(deals <= deals[top] - dip / 2, top)))
    recovered = deals[bottom:] - deals[bottom]
    known = share[: bottom + 1][np.isfinite(share[: bottom + 1])]  # Where nobody deals, the last share counts.
    kept = known.size and _least(share[bottom:]) >= known[-1] - drops
    if not np.nanmax(recovered) > max(dips, dip / 2) or not kept:
        return found
    return [*found, Phase("persuasion", _first(deals >= deals[bottom] + np.nanmax(recovered) / 2, bottom))]


def _least(values_T: np.ndarray) -> float:
    return np.min(values_T, initial=np.inf, where=np.isfinite(values_T))


def _first(holds_T: np.ndarray, after: int) -> int:
    return after + int(np.argmax(holds_T[after:]))


def _smoothed(values_T: np.ndarray) -> tuple[np.ndarray, float]:
    """The running mean over about a tenth of the curve, and the move that stands out from its noise.

    The noise is taken from differences of neighbors, which a slow curve hardly moves.
    """
    reach, steps = len(values_T) // 20, np.diff(values_T)
    noise = np.std(steps[np.isfinite(steps)]) / np.sqrt(2) if np.isfinite(steps).any() else 0.0
    padded = np.pad(values_T, reach, mode="edge")
    return smooth(padded, reach)[reach : len(padded) - reach], max(LEAST, _ERRORS * noise / np.sqrt(2 * reach + 1))


def smooth(values_T: np.ndarray, reach: int) -> np.ndarray:
    """The mean of the finite values from `reach` before to `reach` after each one; nan where there are none."""
    finite = np.isfinite(values_T)
    total = lambda x: np.convolve(x, np.ones(2 * reach + 1))[reach:][: len(x)]
    count = total(finite.astype(float))
    return np.divide(total(np.where(finite, values_T, 0)), count, out=np.full(len(count), np.nan), where=count > 0)
