"""Tests of jobjar/pilots/."""
