"""Reinforcement learning: tables, players, rollouts, advantages, losses, and the train step made of them."""
