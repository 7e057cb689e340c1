"""Reinforcement learning: dialogues as columns of tokens, rollouts, advantages, losses, the learner."""
