"""`python -m jobjar`: the program jobjar, where its `bin/` is not in PATH."""

from __future__ import annotations

import sys

from jobjar.programs.jobjar import main
from jobjar.settings.layers import home_of_library

if __name__ == "__main__":
    home = home_of_library()
    # A jar that carries this library is the one that is meant, as for the programs in its bin/.
    program_path = __file__ if home is None else f"{home}/bin/jobjar"
    sys.argv[0] = "jobjar"  # messages begin with it
    sys.exit(main(program_path=program_path))
