"""Starting runs on machines elsewhere. Nothing of the library depends on it."""
