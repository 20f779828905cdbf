"""check_workers: start workers until this node runs JJ_MAX_WORKERS, or enough storage workers; print the new ones' names."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jobjar.job_file.description import storage_category
from jobjar.job_file.names import check_category
from jobjar.programs.command import add_root_option, complain, make_parser, named_jar, run, warn_of_other_versions


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "check_workers") -> int:
    parser = make_parser(
        program,
        "Start workers until JJ_MAX_WORKERS of them run on this node, storage workers not counted; with --storage, until "
        "JJ_MAX_STORAGE_WORKERS storage workers of the CLASSes do. Prints the names of those it started.",
    )
    parser.add_argument("--storage", action="store_true", help="storage workers of these storage classes")
    parser.add_argument("--setup", metavar="NAME", help="workers of this setup (`jobjar worker_setup`)")
    add_root_option(parser)
    parser.add_argument("storage_class", nargs="*", metavar="CLASS", help="a storage class; with --storage alone")

    def body(options: argparse.Namespace) -> int:
        from jobjar.control import explain_paused_start
        from jobjar.doctor.node_name import note_name
        from jobjar.programs.start_worker import read_for_check, use_settings_of
        from jobjar.worker import daemon

        if options.storage != bool(options.storage_class):
            parser.error("--storage and the storage classes whose files are to be stored belong together")
        if options.setup:
            use_settings_of(options, program_path)
        with named_jar(options, program_path) as jar:
            jar.root_is_meant = options.as_root_for_group
            warn_of_other_versions(program, jar)
            jar.check_is_safe()
            jar.check_who_runs_jobs()
            classes = tuple(storage_category(check_category(name)) for name in options.storage_class)
            if options.setup:
                started = daemon.check_workers(jar, *read_for_check(jar, options.setup))
            else:
                started = daemon.check_workers(jar, classes or jar.settings.categories, options.storage)
            said = note_name(jar) if started else None
            if said:
                complain(program, said)
            for name in started:
                print(name)
            paused = explain_paused_start(jar.layout) if started else None
            if paused:
                complain(program, paused)
        return 0

    return run(parser, argv, body)
