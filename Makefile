# make demo and make test are all one needs; `make` alone lists the rest.

CARGO ?= cargo
CACHE := $(or $(TOLLGATE_CACHE),$(HOME)/.cache/tollgate)
TARGET := $(or $(CARGO_TARGET_DIR),target)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

# a Node that .ci/needs installed comes first
export PATH := $(CACHE)/node/bin:$(PATH)

.PHONY: help demo test house lint deny dist fuzz

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: ## build, and run the gateway with simulated providers: the first request needs no account
	@.ci/needs build
	$(CARGO) build --release --locked
	$(TARGET)/release/tollgate demo $(DEMO)

test: export TOLLGATE_REQUIRE_CLIENTS = 1
test: ## every test: units, the gateway as a process, the rules of the source, the documents, the real SDKs
	@.ci/needs test
	tests/clients/run --install
	$(CARGO) test --locked
	tests/clients/run $(TARGET)/debug/tollgate

house: ## the longest files and functions, to look whether one holds two ideas
	@echo "files over 300 lines:"
	@git ls-files -z 'src/*.rs' | xargs -0 wc -l | awk '$$2 != "total" && $$1 > 300 { printf "%6d %s\n", $$1, $$2 }' | sort -rn
	@echo "functions over 50 lines:"
	@git ls-files -z 'src/*.rs' | xargs -0 awk ' \
	  FNR == 1 { name = "" } \
	  name == "" && match($$0, /^ *(pub(\([a-z]+\))? )?(const )?(async )?(unsafe )?fn [a-z_0-9]+/) { \
	    name = substr($$0, RSTART, RLENGTH); sub(/.*fn /, "", name); \
	    match($$0, /^ */); indent = RLENGTH; start = FNR; \
	    if ($$0 ~ /;$$/ || $$0 ~ /}$$/) name = ""; next } \
	  name != "" && match($$0, /^ *}/) && RLENGTH == indent + 1 { \
	    if (FNR - start + 1 > 50) printf "%6d %s:%d %s\n", FNR - start + 1, FILENAME, start, name; name = "" }' | sort -rn

lint: ## format, clippy, and cargo-deny where it is installed
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(MAKE) --no-print-directory deny; \
	else echo "cargo-deny is not installed (make deny installs it); tests/house.rs checks the version floors"; fi

deny: ## licences, sources and bans of the dependency tree; installs cargo-deny
	@command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked
	$(CARGO) deny --locked --config conf/deny.toml check bans licenses sources

dist: ## a tar file for this platform, with its checksum
	@.ci/needs build
	$(CARGO) build --profile dist --locked
	rm -rf $(TARGET)/dist/tollgate-$(VERSION)
	mkdir -p $(TARGET)/dist/tollgate-$(VERSION)
	cp -R $(TARGET)/dist/tollgate README.md CHANGELOG.md LICENSE conf docs systemd $(TARGET)/dist/tollgate-$(VERSION)/
	tar -C $(TARGET)/dist -czf $(TARGET)/dist/tollgate-$(VERSION)-$(HOST).tar.gz tollgate-$(VERSION)
	cd $(TARGET)/dist && sha256sum tollgate-$(VERSION)-$(HOST).tar.gz > tollgate-$(VERSION)-$(HOST).tar.gz.sha256

FUZZ_SECONDS ?= 10
FUZZ_TARGETS ?= json_scan json_tree sse_frames event_stream decode_request decode_response round_trip
fuzz: ## each parser and codec against made-up bytes, FUZZ_SECONDS=10 each; installs cargo-fuzz
	@command -v cargo-fuzz >/dev/null || $(CARGO) install cargo-fuzz --locked
	@for target in $(FUZZ_TARGETS); do \
	  mkdir -p tests/fuzz/corpus/$$target; \
	  RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir tests/fuzz -s none $$target tests/fuzz/corpus/$$target tests/fuzz/seeds/$$target \
	    -- -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 || exit 1; \
	done

-include benches/bench.mk
