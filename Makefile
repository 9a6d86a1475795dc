# A thin door to `cargo xtask`, which does the work.
.PHONY: build test lint format run

build:
	cargo xtask build

test:
	cargo xtask test

lint:
	cargo xtask lint

format:
	cargo xtask format

run:
	cargo xtask up
