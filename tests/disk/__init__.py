"""The jar on disks that fail: errors at random, read-only for a while."""
