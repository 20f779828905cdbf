"""The ledger: a SQLite index over a jar's journals and directories.

home where it lives and its lock, store the open database, migrate its schema, fold journals into it, reconcile it with
the directories, queries of it, rebuild it, snapshot a copy for others. Only this package speaks SQL.
"""
