# Everything that a person or CI does with this repository. `make help` lists it.

CARGO ?= cargo
FUZZ_SECONDS ?= 10
export PATH := $(HOME)/.cargo/bin:$(PATH):/usr/sbin:/sbin
RELEASE := $(CURDIR)/target/release
DEBUG := $(CURDIR)/target/debug

# Tests of the other engine: all whose outcome depends on how packets and commands meet.
SECOND_ENGINE := uring
SECOND_ENGINE_TESTS := connectivity isolation forgery virtio own_interface lifecycle restart roam shares streams segmentation

.DEFAULT_GOAL := help
.PHONY: help setup build test test-faults lint audit fuzz miri mutants demo bench bench-growth bench-compare bench-report bench-real bench-peers bench-micro bench-instructions bench-store bench-control clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is missing (Debian packages, Rust toolchain)
	@bash scripts/setup.sh

build: setup ## Build weftd, weft-helper, weft-control and weft
	$(CARGO) build --release --locked -p weftd -p weft-helper -p weft-control -p weft

# Tests run on the dev profile, which is optimised too, but checks arithmetic and assertions.
test: setup ## Run all tests; the ones in network namespaces need root
	$(CARGO) build --locked -p weftd -p weft-helper -p weft-control -p weft
	$(CARGO) test --locked --workspace --exclude netns-tests --no-fail-fast
	$(CARGO) test --locked -p weft-proto --all-features --lib
	WEFT_BIN_DIR=$(DEBUG) $(CARGO) test --locked -p netns-tests --no-fail-fast
	WEFT_ENGINE=$(SECOND_ENGINE) WEFT_BIN_DIR=$(DEBUG) $(CARGO) test --locked -p netns-tests \
		--no-fail-fast $(addprefix --test ,$(SECOND_ENGINE_TESTS))

test-faults: build ## Inject every fault at full extent and print a table of figures; needs root
	@CARGO="$(CARGO)" WEFT_BIN_DIR=$(RELEASE) scripts/faults.sh $(FAULTS)

lint: setup ## Check formatting, clippy, dependencies (if cargo-deny is installed)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --locked check bans licenses sources; \
	else echo "cargo-deny is not installed: dependencies are not checked"; fi

audit: setup ## Check dependencies for known weaknesses (needs cargo-deny and the network)
	$(CARGO) deny --locked check advisories

fuzz: setup ## Run every fuzz target for a while (FUZZ_SECONDS=10)
	@CARGO="$(CARGO)" scripts/fuzz.sh $(FUZZ_SECONDS)

miri: setup ## Run tests under Miri (needs or installs a nightly toolchain)
	@scripts/miri.sh

mutants: setup ## Check that tests notice changes of what security rests on; hours (PART=replay for one)
	@CARGO="$(CARGO)" scripts/mutants.sh $(PART)

demo: build ## Two hosts and two environments on this machine, shown and cleaned up
	$(CARGO) build --release --locked -p netns-tests --bin demo
	@WEFT_BIN_DIR=$(RELEASE) $(RELEASE)/demo

bench: build ## Measure beside other tunnels and write target/bench/report.html (QUICK=1, BENCH=options)
	$(CARGO) build --release --locked -p weft-benches --bin bench-path --bin bench-growth
	@WEFT_BIN_DIR=$(RELEASE) $(RELEASE)/bench-growth $(if $(filter 1,$(QUICK)),--quick)
	@WEFT_BIN_DIR=$(RELEASE) $(RELEASE)/bench-path $(if $(filter 1,$(QUICK)),--quick) $(BENCH)

bench-growth: build ## Measure only how costs grow with hosts, environments, routes, attachments
	$(CARGO) build --release --locked -p weft-benches --bin bench-growth
	@WEFT_BIN_DIR=$(RELEASE) $(RELEASE)/bench-growth $(if $(filter 1,$(QUICK)),--quick) $(BENCH)

bench-store: setup ## Measure the store beside SQLite itself (BENCH="--directory DIR" for another disk)
	$(CARGO) build --release --locked -p weft-benches --bin bench-store
	@$(RELEASE)/bench-store $(BENCH)

bench-control: setup ## Measure the control plane with 1,000 environments, 1,000 hosts, 10,000 attachments (BENCH=…)
	$(CARGO) build --release --locked -p weft-control -p weft-benches --bin weft-control --bin bench-control
	@$(RELEASE)/bench-control --program $(RELEASE)/weft-control $(BENCH)

bench-report: ## The page and the main plot of a run, made again (JSON=benches/results/….json)
	@test -n "$(JSON)" || { echo "JSON=FILE, a document of make bench" >&2; exit 2; }
	@$(CARGO) run --quiet --release --locked -p weft-benches --bin bench-report -- "$(JSON)"

bench-peers: setup ## Install the tunnels that make bench compares with
	@CARGO="$(CARGO)" bash scripts/install-peers.sh

bench-compare: ## What changed between two runs of make bench (OLD=a.json NEW=b.json)
	@test -n "$(OLD)" -a -n "$(NEW)" || { echo "OLD=a.json NEW=b.json, documents of make bench" >&2; exit 2; }
	@$(CARGO) run --quiet --release --locked -p weft-benches --bin bench-compare -- "$(OLD)" "$(NEW)"

bench-real: ## Measure between two machines over SSH (REAL="options", see benches/real/run --help)
	@benches/real/run $(REAL)

bench-micro: setup ## Measure single steps of the data path and handshakes (BENCH=replay for some)
	$(CARGO) bench --locked -p weft-benches --no-default-features --features handshakes --bench micro -- $(BENCH)

bench-instructions: setup ## Compare instruction counts with the baseline (UPDATE=1 renews it)
	$(CARGO) build --release --locked -p weft-benches --no-default-features --bin instructions
	@$(RELEASE)/instructions $(if $(filter 1,$(UPDATE)),--update)

clean: ## Remove everything that was built
	$(CARGO) clean
