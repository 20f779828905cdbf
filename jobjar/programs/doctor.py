"""jobjar doctor: look at this node, and at a pair of nodes; 1 if something endangers jobs."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Sequence

from jobjar.programs.command import complain, make_parser, named_jar, run
from jobjar.programs.options import add_text_format, read_time


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar doctor") -> int:
    parser = make_parser(
        program,
        "Look at this node and its jar, and say of each thing: fine, or what it means and what to do. "
        "Exit status 1 if something endangers jobs. Changes no job and leaves nothing behind.",
    )
    parser.add_argument(
        "--peer", action="store_true", help="measure the pair too: run it on two nodes at about the same time"
    )
    parser.add_argument(
        "--timeout", metavar="TIME", default="60", help="wait at most so long for the peer (default: 60 s; or 30s, 5m)"
    )
    add_text_format(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="print only what is not fine")

    def body(options: argparse.Namespace) -> int:
        from jobjar.doctor.findings import DANGER, FINE, as_objects, format_findings, worst_verdict
        from jobjar.doctor.node import examine_node
        from jobjar.host import node_name
        from jobjar.units import parse_seconds

        timeout_s = read_time("--timeout", options.timeout, parse_seconds)
        # After kill(1), clean up as after Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        failure = ""
        findings = []
        with named_jar(options, program_path) as jar:
            if options.peer:
                from jobjar.doctor.peer import PeerFailed, examine_pair

                try:
                    findings += examine_pair(jar, timeout_s, lambda line: complain(program, line))
                except PeerFailed as error:
                    failure = str(error)
            findings = examine_node(jar) + findings
        worst = worst_verdict(findings)
        if options.format == "json":
            shown = [finding for finding in findings if not options.quiet or finding.verdict != FINE]
            answer = {"home": jar.layout.home, "node": node_name(), "worst": worst, "failure": failure or None}
            print(json.dumps({**answer, "findings": as_objects(shown)}, indent=1))
        else:
            print(f"Jar {jar.layout.home}, seen from {node_name()}\n")
            print(format_findings(findings, options.quiet))
        if failure:
            complain(program, failure)
        return 1 if worst == DANGER or failure else 0

    return run(parser, argv, body)
