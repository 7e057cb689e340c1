"""Evaluation: players on common random numbers, estimates with intervals, tables, figures and transcripts."""
