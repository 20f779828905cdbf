"""The settings: the one table, the layers that values come from, and the parsers of values."""
