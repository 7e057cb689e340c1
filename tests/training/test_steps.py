"""Steps are timed by when they were done, whether or not the metrics of two are looked at together."""

import itertools
import time

import jax.numpy as jnp
import numpy as np

from negot_jax.training import steps

SECONDS = 0.05


class Job:
    """Steps that take a while, as a CPU runs them: they are done when the call returns."""

    name = "a step"

    def __init__(self):
        self.times, self.saved = [time.perf_counter()], []

    def step(self, iteration, state):
        time.sleep(SECONDS)
        return state + 1, {"x": jnp.zeros(())}

    def look(self, iteration, metrics, when):
        self.times.append(when)

    def save(self, done, state):
        self.saved.append(done)


def test_every_step_takes_its_own_time_also_where_two_are_looked_at_before_a_save():
    job = Job()
    assert steps.run(job, np.int32(0), range(6), 3, lambda: False) == 6 and job.saved == [3, 6]
    spent = [later - earlier for earlier, later in itertools.pairwise(job.times)]
    assert len(spent) == 6 and min(spent) > 0.9 * SECONDS
