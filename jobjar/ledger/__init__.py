"""The ledger: a SQLite index over a jar's journals and directories.

home: where it lives, and its lock. store: the open database. migrate: its schema. fold: journals into it. reconcile:
make it agree with the directories. ask: queries of it. rebuild: make it anew. snapshot: a copy for others. All SQL is
in this package.
"""
