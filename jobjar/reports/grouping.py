"""What statistics may group jobs by, and of how many they are: by itself, since every `--help` and completion asks for it."""

from __future__ import annotations

GROUPINGS = ("category", "batch", "name", "submitter", "node")
# So many of the jobs that ended last tell enough, and are read in a tenth of a second.
NEWEST = 10_000
