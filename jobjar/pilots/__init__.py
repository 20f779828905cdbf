"""Pilots: workers that are submitted into the batch system that is there, where jobs wait for them."""
