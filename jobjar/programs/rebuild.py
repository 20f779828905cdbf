"""jobjar rebuild: make this node's ledger anew from the journals and the directories."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.errors import OtherVersionAtWork
from jobjar.host import node_name
from jobjar.programs.command import complain, make_parser, named_jar, run
from jobjar.version import VERSION


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar rebuild") -> int:
    parser = make_parser(
        program, "Make this node's ledger anew from the journals and the directories. Workers may go on meanwhile."
    )

    def body(options: argparse.Namespace) -> int:
        from jobjar.grouped import name_some
        from jobjar.ledger.rebuild import find_other_version, rebuild_ledger
        from jobjar.programs.shown_meter import open_meter
        from jobjar.reports.versions import other_versions
        from jobjar.roster import list_workers

        with named_jar(options, program_path) as jar:
            home = jar.ledger_home
            other = find_other_version(home)
            if other is not None:
                # Workers of the other version that use this home would refuse the new ledger, as this version refuses theirs.
                theirs = [
                    worker
                    for worker in list_workers(jar.layout)
                    if not home.has_other_homes or worker.process.node == node_name()
                ]
                for version, names in other_versions(theirs).items():
                    raise OtherVersionAtWork(
                        ours=VERSION, theirs=f"version {version}", workers=name_some(names), names=" ".join(names)
                    )
            with open_meter() as meter:
                rebuild_ledger(jar.layout, home, meter)
        if other is not None:
            theirs_is = other.fields["theirs"]
            complain(program, f"the ledger is now that of version {VERSION}; programs of {theirs_is} will refuse it")
        print(home.database)
        return 0

    return run(parser, argv, body)
