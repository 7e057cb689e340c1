"""Matches on the host: any player on either side of the table, by the rules, scenarios and tables of the arena."""
