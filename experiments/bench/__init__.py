"""Measurements. Speed and memory are measured here, and never by a test."""
