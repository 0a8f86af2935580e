# make test     everything that must hold: installs what it needs, then format, lint, every test, the real clients
# make fmt      format the code            make lint     clippy, documentation links, shellcheck; warnings denied
# make bench    the measurements           make samples  train the sample models again
# make soak     the fault suite at length: hundreds of kills and power cuts, a thousand damaged files, a week offline
# make fuzz     the fuzz targets, ten minutes each; needs a nightly toolchain and cargo-fuzz
# make setup    only install what the tests need
# make bench-serving   batching, cold starts, routes: the networks of the zoo behind the server
# make bench-engines   the CPU engine beside onnxruntime, tract alone and openvino
# make zoo      networks of the sizes that people bring, built with PyTorch: the long run and the benches look at them
# make cross    build for another processor: make cross TARGET=aarch64, or armv7, or x86_64

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

VENV := $(CURDIR)/.venv
SOAK_VENV := $(CURDIR)/.venv-soak
ZOO := $(CURDIR)/.cache/zoo
BUILT := $(abspath $(or $(CARGO_TARGET_DIR),target))
STAGES := $(BUILT)/stages
SCRIPTS := $(wildcard .ci/run */*.sh daemon/samples/*.sh tests/*/*.sh)

# mold links several times faster. Run this way it needs no compiler flag, so that builds with and without it share
# every artifact.
LINKED := $(if $(shell command -v mold),mold -run )cargo

# What the tests look for: the binary that cargo builds beside them, and the clients' Python.
export EDGEWARD_BIN := $(BUILT)/debug/edgeward
export EDGEWARD_PYTHON := $(wildcard $(VENV)/bin/python)

# Where the tests write how many cases they had and what they skipped, which cargo hides when they pass.
export EDGEWARD_REPORT := $(BUILT)/report

# Runs a command as a named stage and keeps the seconds it took.
define stage
@printf '\n== %s\n' '$(1)'
@start=$$SECONDS; $(2); mkdir -p $(BUILT); printf '%6d s  %s\n' $$((SECONDS - start)) '$(1)' | tee -a $(STAGES)
endef

.PHONY: test setup verify fmt lint bench bench-engines bench-serving soak fuzz samples zoo cross

# Two steps, because the second looks at what the first installed.
test:
	@mkdir -p $(BUILT) && rm -f $(STAGES)
	$(call stage,setup,$(MAKE) setup)
	@$(MAKE) verify
	@printf '\n== seconds by stage\n' && cat $(STAGES)

setup:
	@tests/setup.sh $(VENV)

verify:
	$(call stage,format,cargo fmt --all --check)
	$(call stage,lint,$(MAKE) lint)
	$(call stage,build the tests,$(LINKED) test --workspace --locked --no-run)
	$(if $(shell command -v systemd-analyze),$(call stage,service unit,systemd/verify.sh $(EDGEWARD_BIN)))
	@rm -f $(EDGEWARD_REPORT)
	$(call stage,tests,cargo test --workspace --locked)
	$(call stage,clients,tests/clients/run.sh)
	$(call stage,report,cargo run --quiet --locked --package edgeward-harness --bin report $(EDGEWARD_REPORT))

fmt:
	@cargo fmt --all

lint:
	@$(LINKED) clippy --workspace --all-targets --locked -- -D warnings
	@$(LINKED) clippy --package edgeward --no-default-features --locked -- -D warnings
	@RUSTDOCFLAGS='-D warnings' $(LINKED) doc --workspace --locked --no-deps --document-private-items --quiet
	$(if $(shell command -v shellcheck),@shellcheck --severity=warning $(SCRIPTS))

# What is measured, and what the long run attacks, is what ships.
bench soak: export EDGEWARD_BIN := $(BUILT)/release/edgeward

bench:
	@$(LINKED) build --release --locked --package edgeward
	@$(LINKED) bench --workspace --locked

# What batching gives, what the first request of a model at zero takes, and what each route costs.
bench-serving: export EDGEWARD_BIN := $(BUILT)/release/edgeward
bench-serving: zoo
	@$(LINKED) build --release --locked --package edgeward
	@EDGEWARD_ZOO=$(ZOO) EDGEWARD_PYTHON=$(CURDIR)/.cache/zoo-venv/bin/python \
		$(LINKED) bench --locked --package edgeward-benches --bench batching --bench cold_start --bench routes

# Our CPU engine beside onnxruntime, tract alone and openvino.
bench-engines: zoo
	@EDGEWARD_ZOO=$(ZOO) EDGEWARD_PYTHON=$(CURDIR)/.cache/zoo-venv/bin/python \
		$(LINKED) bench --locked --package edgeward-benches --bench engines

# One run at a time, each alone on the machine: what it prints is what docs/operations.md says. The floors are those of
# [soak.*] in tests/floors.toml.
soak: export EDGEWARD_SOAK := 1
soak: export EDGEWARD_PYTHON := $(SOAK_VENV)/bin/python
soak:
	@tests/setup.sh $(SOAK_VENV) soak
	@$(LINKED) build --release --locked --package edgeward
	@$(LINKED) test --locked --package edgeward --test process --no-run
	@for run in kill powercut damage full upgrade clock overload; do \
		cargo test --quiet --locked --package edgeward --test process "$$run::" -- --nocapture; \
	done
	@$(LINKED) test --release --quiet --locked --package edgeward --test offline -- --nocapture
	@tests/clients/run.sh
	@tests/zoo/build.sh $(ZOO)
	@EDGEWARD_ZOO=$(ZOO) $(LINKED) test --quiet --locked --package edgeward-suite zoo -- --nocapture
	@$(LINKED) bench --locked --package edgeward-benches --bench row_bytes --bench full_disk

# What was once found is replayed by the suite; this looks for more.
FUZZ_SECONDS ?= 600

fuzz:
	@tests/fuzz/run.sh $(FUZZ_SECONDS)

zoo:
	@tests/zoo/build.sh $(ZOO)

samples:
	@daemon/samples/train.sh

cross:
	@cross/build.sh $(TARGET)
