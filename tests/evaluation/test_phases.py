"""The phases of training: found in curves that have them, and in no others."""

import numpy as np
import pytest

from negot_jax.evaluation import phases

T = np.arange(200)


def curves(opens_from=1.0, to=0.5, dip=0.3, recovers=True, noise=0.0, seed=0, share=0.6):
    """The opening price falls around 50, the deal rate dips around 90 and is back around 150."""
    rng = np.random.default_rng(seed)
    step = lambda at: 1 / (1 + np.exp(-(T - at) / 4.0))
    opening = opens_from - (opens_from - to) * step(50)
    deals = 0.8 - dip * step(90) + (dip * step(150) if recovers else 0)
    made = (opening, deals, np.full(len(T), share))
    return [values + noise * rng.normal(size=len(T)) for values in made]


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_all_four_are_found_where_they_begin(noise):
    found = phases.find(*curves(noise=noise))
    assert [phase.name for phase in found] == ["naive", "aggressive opening", "deadlock", "persuasion"]
    np.testing.assert_allclose([phase.start for phase in found], [0, 50, 90, 150], atol=6)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"to": 1.0}, 0),  # The opening price stays.
        ({"to": 1.0, "dip": 0.0, "noise": 0.1}, 0),
        ({"opens_from": 0.5, "to": 0.9}, 0),  # It rises.
        ({"dip": 0.0}, 2),
        ({"dip": 0.0, "noise": 0.03}, 2),
        ({"recovers": False}, 3),
    ],
)
def test_what_does_not_happen_is_not_named(changes, names):
    assert len(phases.find(*curves(**changes))) == names


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_has_no_phases(seed):
    rng = np.random.default_rng(seed)
    assert phases.find(*(0.5 + 0.05 * rng.normal(size=(3, 60)))) == []


def test_a_deal_rate_bought_by_giving_in_is_no_persuasion():
    opening, deals, share = curves()
    assert len(phases.find(opening, deals, np.where(T > 130, 0.2, share))) == 3


def test_deals_may_cease_altogether():
    opening, deals, share = curves()
    none = (T > 100) & (T < 140)
    found = phases.find(opening, np.where(none, 0.0, deals), np.where(none, np.nan, share))
    assert [phase.name for phase in found][-1] == "persuasion" and abs(found[-1].start - 145) < 15


@pytest.mark.filterwarnings("error")
def test_missing_values_are_left_out():
    opening, deals, share = curves()
    assert phases.find(opening * np.nan, deals, share) == []
    assert len(phases.find(opening, deals, share * np.nan)) == 3
    share[:40], deals[10] = np.nan, np.nan
    assert len(phases.find(opening, deals, share)) == 4
