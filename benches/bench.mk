# Benchmarks. The whole process beside nginx and a bare Pingora (benches/load/README.md), and the parts of the data path.

BENCH_TARGET ?= $(or $(CARGO_TARGET_DIR),target)
BENCH_RUN = python3 benches/load/run.py --tollgate $(BENCH_TARGET)/dist/tollgate --load $(BENCH_TARGET)/bench-load/dist --run-dir $(BENCH_TARGET)/bench

.PHONY: bench bench-quick bench-bridge bench-route bench-build bench-ledger bench-parts

bench: bench-build ## Compare with nginx and a bare Pingora: all runs, 3 rounds (10 minutes)
	$(BENCH_RUN) --rounds 3

bench-quick: bench-build ## The same in brief: 1 round (2 minutes)
	$(BENCH_RUN) --rounds 1 --runs c64,k100,m1,s500

bench-bridge: bench-build ## What translating costs: the bridge lane beside the splice lane, 3 rounds (3 minutes)
	$(BENCH_RUN) --rounds 3 --peers tollgate --runs b1,b64,bm1,bs50,bs500

bench-route: bench-build ## What routing costs: a group of three beside one target, 1,000 models, 3 rounds (1 minute)
	$(BENCH_RUN) --rounds 3 --peers tollgate --runs r1,r64

bench-build:
	cargo build --profile dist --locked
	cargo build --profile dist --locked --manifest-path benches/load/Cargo.toml --target-dir $(BENCH_TARGET)/bench-load

bench-ledger: ## CPU per call of the ledger, and 20,000 calls a second for ten seconds (1 minute)
	cargo bench --profile dist --bench ledger

bench-parts: ## Time the parts of the data path (scan, splice, sse, tap, bridge, route)
	cargo bench --profile dist --bench scan --bench splice --bench sse --bench tap --bench bridge --bench route -- --quick
