# Short names for the commands of this project; the work is done by cargo and scripts/.
.DEFAULT_GOAL := help
.PHONY: help build run demo test lint bench fuzz clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1 /p' $(MAKEFILE_LIST) | while read -r name text; do printf '  make %-7s %s\n' "$$name" "$$text"; done

build: ## the release binary, target/release/corelane
	cargo build --release

run: ## the proxy with ./config.toml
	cargo run --release -- run

demo: ## the proxy with three backends in one process, on 127.0.0.1:8080
	cargo run --release -- demo

test: ## format, lints and all tests
	scripts/test

lint: ## format and lints alone
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

bench: ## beside nginx, HAProxy and Caddy, an hour on a quiet machine
	scripts/bench

fuzz: ## fuzz the message layer, a minute for each target
	scripts/fuzz

clean: ## remove what was built
	cargo clean
	cargo clean --manifest-path fuzz/Cargo.toml
