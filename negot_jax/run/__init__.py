"""Runs: build, train, evaluate, export.

from negot_jax import run

buyer = run.build("experiments/configs/quickstart.py", "runs/quickstart")
buyer.train()
print(buyer.evaluate({"game.seller": "insulting(tick=100)"}))
"""

from negot_jax.run.assembly import require_backend
from negot_jax.run.config import Config
from negot_jax.run.folder import workdir
from negot_jax.run.reporting import Report
from negot_jax.run.run import Run, build, check, open

__all__ = ["Config", "Report", "Run", "build", "check", "open", "require_backend", "workdir"]
