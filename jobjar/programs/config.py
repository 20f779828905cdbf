"""jobjar config: print every setting, its value and where the value comes from."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence

from jobjar.programs.command import make_parser, run
from jobjar.programs.options import add_table_format
from jobjar.settings.layers import load_settings, parse_option
from jobjar.settings.table import BY_NAME


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar config") -> int:
    parser = make_parser(program, "Print every setting, its value, and where that value comes from.")
    add_table_format(parser, "plain")
    parser.add_argument("--help-settings", action="store_true", help="print what each setting means instead")

    def body(options: argparse.Namespace) -> int:
        from jobjar.reports.tables import check_format, format_table

        check_format(options.format)
        overrides = {}
        if options.home:
            overrides = {"JJ_HOME": parse_option("JJ_HOME", os.path.abspath(options.home), "option --home")}
        settings = load_settings(overrides, program_path, need_home=False)
        if options.help_settings:
            for setting in BY_NAME.values():
                print(f"{setting.name} (default {setting.default or 'none'}; {setting.layers})\n    {setting.help}")
        elif options.format == "json":
            print(
                json.dumps(
                    {name: {"value": value, "from": origin} for name, value, origin in settings.rows()}, indent=1
                )
            )
        else:
            print(format_table(settings.rows(), ("setting", "value", "from"), options.format))
        return 0

    return run(parser, argv, body)
