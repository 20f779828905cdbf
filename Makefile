# `make demo` and `make test` set up all that they need in .venv; a second run is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Python's own tests, of which those of executors are run on a jar.
TESTSUITE = $(shell apt-cache pkgnames libpython3 2>/dev/null | grep -- '-testsuite$$')
PACKAGES = slurmctld slurmd slurm-client util-linux strace iproute2 kmod e2fsprogs fuse3 moosefs-master moosefs-chunkserver moosefs-client \
	user-mode-linux nfs-kernel-server nfs-common rpcbind openssh-server openssh-client zip gcc jq sqlite3 locales tmux parallel \
	$(TESTSUITE)
WEB_PACKAGES := chromium chromium-driver fonts-dejavu-core openssl
BENCHMARKS := throughput bench_arrays bench_executor bench_submitting bench_claiming bench_latency bench_import bench_folding bench_hosts bench_described bench_overlap scale

PEERS := huey==2.5.3 jug==2.4.0

# The tests that start no program (tests/quick.py); the names of those that take long all the same are shown.
QUICK := -n 2 --dist worksteal -m "not slow and not faults" --durations=5 --durations-min=2

# Whichever of these run on this machine; a path will do too.
PYTHONS ?= python3.12 python3.13

.PHONY: help demo demo-jug packages-web screens test test-web test-quick test-pythons faults lint format bench bench-peers tarball dist docs packages clean

help:
	@echo "make demo        run the three-stage example on this machine's own Python library"
	@echo "make demo-jug    run a batch of described jobs on this machine's own text files"
	@echo "make test        lint and all tests        make test-quick   those that start no program, in a minute"
	@echo "make test-pythons  the quick ones with each of $(PYTHONS) that runs here"
	@echo "make faults      break everything for twenty minutes and count what was lost (as root: all of it)"
	@echo "make test-web    the pages in Chromium     make screens      pictures of them for README.md (make packages-web)"
	@echo "make lint        formatter, linter, types  make format       let the formatter do it"
	@echo "make tarball     build/jobjar-VERSION.tgz: a jar with its library, to be unpacked where there is neither pip nor network"
	@echo "make dist        build/dist: the wheel and the sdist, checked"
	@echo "make docs        build/docs: the pages as a site, with a reference of programs, settings, library, entries and tables"
	@echo "make bench-peers measure beside xargs, GNU Parallel, Task Spooler, huey, jug and HyperQueue, as far as they are installed"
	@echo "make bench       measure                   make packages     Debian packages for the tests of nodes and of network disks"

$(READY): setup.cfg pyproject.toml jobjar/version.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Job Jar needs Python 3.11 or later; name one: make PYTHON=python3.12 …"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@

demo: $(READY)
	@$(BIN)/python examples/sr/demo.py build/demo

demo-jug: $(READY)
	@$(BIN)/python examples/jug/demo.py build/demo-jug

# Tests often wait for what they started: six at once keep two processors busy.
test: lint
	@$(BIN)/python -m pytest -n 6 --dist worksteal

# The pages in Chromium; `make test` has them too, and skips them where there is none.
test-web: $(READY)
	@$(BIN)/python -m pytest tests/web

test-quick: $(READY)
	@$(BIN)/python -m pytest $(QUICK)

# That a name is there says little (pyenv puts one there for each version that it could run), so each is run; pyenv's own versions
# are looked for where it keeps them.
test-pythons:
	@tested=; status=0; \
	for name in $(PYTHONS); do \
	  python=; \
	  for path in "$$name" "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/*/bin/"$$name"; do \
	    "$$path" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { python=$$path; break; }; \
	  done; \
	  if test -z "$$python"; then \
	    echo "$$name: skipped: no Python 3.11 or later with venv runs here by that name"; continue; \
	  fi; \
	  home=build/$$(basename "$$name"); \
	  echo "$$name: $$("$$python" --version), in $$home"; \
	  { test -x "$$home/bin/python" || "$$python" -m venv "$$home"; } && \
	    "$$home/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[test]' && \
	    "$$home/bin/python" -m pytest -p no:cacheprovider $(QUICK) || status=1; \
	  tested="$$tested $$name"; \
	done; \
	echo "tested with:$${tested:- none}"; exit $$status

faults: $(READY)
	@$(BIN)/python -m tests.faults.everything

lint: $(READY)
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary

format: $(READY)
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

bench: $(READY)
	@for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py --keep || exit 1; done
	@rm -rf build/bench

# huey and jug get a virtual environment of their own. `apt-get install parallel task-spooler` and HyperQueue's `hq` are the user's.
bench-peers: $(READY)
	@test -x build/peers/bin/jug -a -x build/peers/bin/huey_consumer || { $(PYTHON) -m venv build/peers && \
	  build/peers/bin/python -m pip install --quiet --disable-pip-version-check $(PEERS); } || \
	  echo "huey and jug cannot be installed; they are left out"
	@$(BIN)/python benchmarks/bench_peers.py --keep
	@rm -rf build/bench

# All that it needs is in $(VENV): no network is asked. Its times are those of the commit, so that it can be made again.
tarball: $(READY)
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} $(BIN)/python release/make_tarball.py

# The pages as a site, in build/docs. A warning, or a link that leads nowhere, is an error.
docs: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@PYTHONPATH=. $(BIN)/python release/make_docs.py build/docs-source
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -j auto build/docs-source build/docs
	@echo build/docs/index.html

# The wheel and the sdist, as they would be published. Tools of their own, which the tests do not need.
dist: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dist]'
	@rm -rf build/dist
	@$(BIN)/python -m build --outdir build/dist . >build/dist.log 2>&1 || { cat build/dist.log; exit 1; }
	@$(BIN)/twine check --strict build/dist/*
	@$(BIN)/check-wheel-contents build/dist/*.whl
	@ls build/dist

# None of them leaves a service running that was not: policy-rc.d forbids it while they are installed.
packages:
	@test -e /usr/sbin/policy-rc.d || { printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; \
	  chmod +x /usr/sbin/policy-rc.d; trap 'rm -f /usr/sbin/policy-rc.d' EXIT; }; \
	DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $(PACKAGES)

# What the tests of pages need besides; all of it from Debian.
packages-web:
	DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $(WEB_PACKAGES)

# The pictures in README.md, of a jar that is made for them.
screens: $(READY)
	@$(BIN)/python release/make_screens.py

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
