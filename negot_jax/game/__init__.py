"""The bargaining game: pure functions on integer cents, without text or models."""
