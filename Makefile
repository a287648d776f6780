# `make` alone lists the targets. Nothing has to be installed by hand but rustup, make and python3.
#
#   APPROVE="CONTINUE 90 RUN"  lets a run pass that the gate stops
#   PORT=5000                  the daemon's port;  SMOKE_PORT=5090  the smoke run's own

SHELL := /bin/bash
CARGO ?= cargo
SMOKE_PORT ?= 5090
# An empty approval would be a wrong one.
GATE_FLAGS := $(if $(strip $(APPROVE)),--approve "$(strip $(APPROVE))")

DEBUG := target/debug/aam
RELEASE := target/release/aam
DENY := target/tools/bin/cargo-deny
DENY_VERSION := 0.20.2
PEERS := postgres mariadb moto nanio fastapi chromium cdk prism

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help autonomy-mode smoke-90 heal test run bench parity fuzz \
	debug release gate needs-build needs-test check-scripts check-format check-lints check-docs check-licences check-tests check-smoke

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'A run that the gate stops: make TARGET APPROVE="CONTINUE 90 RUN"'

autonomy-mode: release ## Gate, check the policy, start (or reuse) the daemon, show what is in force
	$(RELEASE) gate $(GATE_FLAGS)
	python3 scripts/autonomy_mode.py --aam $(RELEASE)

smoke-90: debug ## Gate, then five real sources through a daemon of its own; fails below 0.90
	$(DEBUG) gate $(GATE_FLAGS)
	python3 scripts/smoke_90.py --aam $(DEBUG) --port $(SMOKE_PORT)

heal: release ## Verify again, at once, what is not ACTIVE in the running daemon
	$(RELEASE) heal

test: needs-test check-scripts check-format check-lints check-tests check-docs check-licences gate check-smoke ## Everything that CI runs
	@echo "make test: all passed"

run: release ## The daemon in the foreground
	@mkdir -p intents
	$(RELEASE) serve

bench: needs-build ## The measurements of PLAN.md
	scripts/with_peers.sh cdk -- $(CARGO) bench --bench '*'

parity: needs-build ## Agreement of the low-code engine with airbyte-cdk on ../shared/lowcode, every disagreement by name
	$(CARGO) test --locked --release -p lowcode --test parity

fuzz: needs-build ## Mutated manifests, templates and bodies against the interpreter, for AAM_FUZZ_SECONDS (60)
	AAM_FUZZ_SECONDS=$${AAM_FUZZ_SECONDS:-60} $(CARGO) test --locked --release -p lowcode --test fuzz -- --nocapture --test-threads 1

# Parts of the above.

needs-build:
	@scripts/needs.sh build

needs-test:
	@scripts/needs.sh build test

debug: needs-build
	$(CARGO) build --locked

release: needs-build
	$(CARGO) build --locked --release

gate: debug
	$(DEBUG) gate $(GATE_FLAGS)

check-scripts:
	bash -n .ci/run
	for script in scripts/*.sh scripts/peers/*.sh; do bash -n "$$script" || exit 1; done
	PYTHONPYCACHEPREFIX=target/pycache python3 -m py_compile scripts/*.py scripts/peers/*.py

check-format:
	$(CARGO) fmt --check

check-lints:
	$(CARGO) clippy --locked --all-targets -- -D warnings

check-docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

# Advisories are left out: their database is cloned with git, and CI reaches package registries only.
# Fetched first: a build on one platform leaves the crates of the others out.
check-licences: $(DENY)
	$(CARGO) fetch --locked
	$(DENY) --offline --locked --config .ci/deny.toml check licenses bans sources

$(DENY):
	$(CARGO) install cargo-deny --locked --version $(DENY_VERSION) --root target/tools

check-tests:
	scripts/with_peers.sh $(PEERS) -- $(CARGO) test --locked

check-smoke: debug
	rm -rf var/smoke/test
	python3 scripts/smoke_90.py --aam $(DEBUG) --port 0 --dir var/smoke/test --twice
