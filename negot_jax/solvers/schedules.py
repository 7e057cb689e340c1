from negot_jax.game.buyers import tune_linear, linear_rewards
