"""Configurations: each file has a `get_config()`, and its docstring states the command and what was measured."""
