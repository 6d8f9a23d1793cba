# nbws: everything that a fresh machine with Rust, Python >= 3.11, make and a C compiler needs.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BENCH ?= quick
BENCH_VENV ?= .venv-bench
BENCH_BIN := $(BENCH_VENV)/bin
WORK ?= demo-work
# Where wheels and installed copies for checks go; below the build directory of cargo.
CHECK_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)/check
# The documentation's tools and its site.
DOCS_VENV ?= $(VENV)-docs
DOCS_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)/docs

SOURCES := $(shell find rust python -name '*.rs' -o -name '*.py' -o -name '*.pyi' -o -name 'Cargo.toml') Cargo.toml Cargo.lock
PYTEST := $(BIN)/python -m pytest -q

.DEFAULT_GOAL := help
.PHONY: help build demo test soak bench bench-peers audit rust-checks python-checks stubs pytest docs lifecycle clean

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: $(VENV)/.built ## Builds the extension and installs the package into .venv

$(VENV)/.tools: requirements-dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	touch $@

# Release profile: the tests and the demo move real bytes. What is edited during a build is newer than its mark.
$(VENV)/.built: $(VENV)/.tools pyproject.toml $(filter rust/% Cargo.%,$(SOURCES))
	touch $(VENV)/.building
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --locked
	mv $(VENV)/.building $@

demo: build ## Saves, edits, upgrades, saves again and restores a real workspace, explaining each step
	$(BIN)/nbws demo $(WORK)

test: rust-checks python-checks stubs pytest ## Runs every test and check

rust-checks:
	cargo fmt --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --locked

python-checks: build
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# An installed wheel, not the source tree: what users get must carry its types.
stubs: build
	rm -rf $(CHECK_DIR)
	$(BIN)/maturin build --quiet --release --locked --out $(CHECK_DIR)/wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(CHECK_DIR)/site $(CHECK_DIR)/wheel/*.whl
	test -f $(CHECK_DIR)/site/nbws/_nbws.pyi
	test -f $(CHECK_DIR)/site/nbws/py.typed
	cd $(CHECK_DIR)/site && MYPYPATH=. PYTHONPATH=. $(abspath $(BIN))/python -m mypy.stubtest --mypy-config-file $(abspath pyproject.toml) nbws

pytest: build
	$(PYTEST) -m 'not soak'

soak: build ## Runs the long tests: full model, millions of files, large files
	NBWS_SOAK=1 cargo test --workspace --locked --release -- --include-ignored --nocapture
	NBWS_SOAK=1 $(PYTEST) -m soak

# An environment of its own, with the wheel that users get.
$(BENCH_VENV)/.tools: benches/requirements.txt requirements-dev.txt
	test -x $(BENCH_BIN)/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -r benches/requirements.txt
	touch $@

$(BENCH_VENV)/.built: $(BENCH_VENV)/.tools pyproject.toml $(SOURCES)
	rm -rf $(BENCH_VENV)/wheel
	VIRTUAL_ENV=$(abspath $(BENCH_VENV)) $(BENCH_BIN)/maturin build --quiet --release --locked --out $(BENCH_VENV)/wheel
	$(BENCH_BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall $(BENCH_VENV)/wheel/*.whl
	touch $@

bench: $(BENCH_VENV)/.built ## Compares nbws with other tools; BENCH=quick (5 minutes) or full (40)
	PYTHONPATH=benches $(BENCH_BIN)/python -m nbws_bench $(BENCH)
	cargo bench --locked -p nbws-core --bench data_path $(if $(filter quick,$(BENCH)),-- --quick)

# What this machine can't build is reported by `make bench` as absent. About half an hour of compiling.
bench-peers: $(BENCH_VENV)/.tools ## Builds the newest restic, kopia and rustic for make bench
	-cd benches/peers && GOFLAGS=-mod=mod go build -o $(abspath $(BENCH_BIN))/restic github.com/restic/restic/cmd/restic
	-cd benches/peers && GOFLAGS=-mod=mod go build -o $(abspath $(BENCH_BIN))/kopia github.com/kopia/kopia
	-cargo install --locked --no-default-features --root $(abspath $(BENCH_VENV)) --version 0.11.4 rustic-rs

docs: $(DOCS_VENV)/.tools ## Builds the documentation site from the sources alone
	PYTHONPATH=python $(DOCS_VENV)/bin/python docs/site/build.py $(DOCS_DIR)

lifecycle: build ## Writes docs/lifecycle.md from the table of states
	$(BIN)/python docs/site/lifecycle.py

$(DOCS_VENV)/.tools: docs/requirements.txt
	test -x $(DOCS_VENV)/bin/python || $(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement docs/requirements.txt
	touch $@

audit: $(VENV)/.tools ## Checks licences and known vulnerabilities of all dependencies
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --locked check
	$(BIN)/pip-audit --requirement requirements-dev.txt --requirement docs/requirements.txt --requirement benches/requirements.txt --no-deps --disable-pip

clean: ## Removes everything that was built
	rm -rf $(VENV) $(DOCS_VENV) $(BENCH_VENV) target $(WORK)
