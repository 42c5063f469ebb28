# SPDX-License-Identifier: MIT OR Apache-2.0
# The whole suite: build, install, test. `make help` lists the targets.

PREFIX ?= /usr
PROFILE ?= release
CARGO ?= cargo
# Debian release of the testbed's site; empty: this machine's own, else bookworm.
ROOT ?=

TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
BUILT := $(TARGET_DIR)/$(PROFILE)
TESTBED := $(TARGET_DIR)/debug/testbed
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=PATH,CARGO_TARGET_DIR,TESTBED_MIRROR,TESTBED_PROFILE,TESTBED_SERVER,TESTBED_ISSUER,TESTBED_CA,TESTBED_MYTOKEN_FILE)
SITE := $(AS_ROOT) $(TESTBED) $(if $(ROOT),--root $(ROOT))
# Where PAM and Slurm look for modules, e.g. x86_64-linux-gnu. The Rust target is the host's.
TRIPLET ?= $(shell gcc -print-multiarch 2>/dev/null || echo $$(uname -m)-linux-gnu)

.DEFAULT_GOAL := build
.PHONY: help bootstrap build site tools install test demo shell bench fuzz lint msrv clean

help:
	@echo 'build    the product, in release mode          install  put it below DESTDIR, as packages do'
	@echo 'demo     the whole story on the terminal'
	@echo 'test     everything, ROOT=bookworm|trixie      shell    a shell as alice in a site'
	@echo 'lint     formatting, clippy, rustdoc, licences msrv     check with the oldest supported compiler'
	@echo 'bench    measure what it costs, into target/bench.json'
	@echo 'fuzz     each parser of foreign input for FUZZ_SECONDS, 60'

bootstrap:
	@tests/testbed/bootstrap

# The plugin by itself: built together with the others it would get their features of the shared crate.
build: bootstrap
	$(CARGO) build --locked --release -p slurm-spank
	$(CARGO) build --locked --release -p pam-mytoken -p mytokend -p ssh-helper

# The testbed and the test server are never installed and need no optimising link.
site: bootstrap
	$(CARGO) build --locked -p testbed -p testserver

# With the modules that panic on request, for the tests; in a directory of their own because both builds have the same file names.
tools: site
	$(CARGO) build --locked -p slurm-spank --features panic-injection --target-dir $(TARGET_DIR)/tmp/panic-injection
	$(CARGO) build --locked -p pam-mytoken --features panic-injection --target-dir $(TARGET_DIR)/tmp/panic-injection

# What packages ship, from what `build` made; installs nothing else and builds nothing.
install:
	install -D -m 0644 $(BUILT)/libpam_mytoken.so $(DESTDIR)$(PREFIX)/lib/$(TRIPLET)/security/pam_mytoken.so
	install -D -m 0644 $(BUILT)/libspank_mytoken.so $(DESTDIR)$(PREFIX)/lib/$(TRIPLET)/slurm-wlm/spank_mytoken.so
	install -D -m 0755 $(BUILT)/mytoken-ssh $(DESTDIR)$(PREFIX)/bin/mytoken-ssh
	install -D -m 0755 $(BUILT)/mytokenctl $(DESTDIR)$(PREFIX)/bin/mytokenctl
	install -D -m 0755 $(BUILT)/mytokend $(DESTDIR)$(PREFIX)/sbin/mytokend
	install -D -m 0755 $(BUILT)/mytoken-submit $(DESTDIR)$(PREFIX)/libexec/mytoken/mytoken-submit
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/mytoken packaging/plugstack.conf packaging/sshd.conf packaging/sshd-penalties.conf packaging/pam-sshd.example

# Ends with the sum of all results: "N passed, N failed" and ", N skipped" when there are any.
test: build tools
	@$(TESTBED) $(if $(ROOT),--root $(ROOT)) test

demo: build site
	@$(SITE) demo

shell: build site
	@$(SITE) shell

# Wants a quiet machine; goals that are not met are shown and fail nothing. BENCH= passes arguments on, e.g. BENCH='--scale 20 logins'.
bench: build site
	@$(SITE) bench $(BENCH)

# A target for each parser of foreign input. FUZZ= names some, e.g. FUZZ='prompt names'.
fuzz: bootstrap
	@CARGO='$(CARGO)' FUZZ_SECONDS='$(or $(FUZZ_SECONDS),60)' fuzz/run $(FUZZ)

lint: bootstrap
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	@# Named, so that libFuzzer itself, which is C++, is not built for a check.
	CUSTOM_LIBFUZZER_PATH=/usr/lib/libFuzzer.a RUSTFLAGS='--cfg fuzzing' $(CARGO) check --locked --manifest-path fuzz/Cargo.toml --target-dir $(TARGET_DIR)/fuzz-check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps --document-private-items
	@# Also what other platforms need: cargo-deny looks at the whole lock file.
	$(CARGO) fetch --locked
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --locked --offline check licenses bans sources; \
	else echo 'lint: skipped licences, bans and sources: cargo-deny is not installed (cargo install --locked cargo-deny)'; fi

msrv: site
	@$(CARGO) fetch --locked
	@$(AS_ROOT) env CARGO_HOME="$${CARGO_HOME:-$$HOME/.cargo}" $(TESTBED) msrv

clean:
	$(AS_ROOT) rm -rf $(TARGET_DIR)/roots
	$(CARGO) clean
