"""Calls of Python functions as jobs: `jobjar.Executor`, and what is made of it."""
