"""Command-line programs. Flags and `ml_collections` stop here."""
