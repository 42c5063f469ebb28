# SPDX-License-Identifier: MIT OR Apache-2.0
# The whole suite: build, install, test. `make help` lists the targets.

PREFIX ?= /usr
PROFILE ?= release
CARGO ?= cargo
# Debian release of the testbed's site; empty: the release of this machine, otherwise bookworm.
ROOT ?=

TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
BUILT := $(TARGET_DIR)/$(PROFILE)
TESTBED := $(TARGET_DIR)/debug/testbed
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=PATH,CARGO_TARGET_DIR,TESTBED_MIRROR,TESTBED_PROFILE,TESTBED_SERVER,TESTBED_ISSUER,TESTBED_CA,TESTBED_MYTOKEN_FILE)
SITE := $(AS_ROOT) $(TESTBED) $(if $(ROOT),--root $(ROOT))
# Directory below lib where PAM and Slurm look for modules, e.g. x86_64-linux-gnu.
TRIPLET ?= $(shell gcc -print-multiarch 2>/dev/null || echo $$(uname -m)-linux-gnu)
# These two directories in full: distributions with RPM have others.
PAM_DIR ?= $(PREFIX)/lib/$(TRIPLET)/security
SLURM_DIR ?= $(PREFIX)/lib/$(TRIPLET)/slurm-wlm

# Program that removes symbols from the installed files; empty: they keep them, for packages that ship symbols separately.
STRIP ?= strip

.DEFAULT_GOAL := build
TARGETS := help toolchain extras compiler mmdebstrap debhelper build deb earlier arm64 rpm rpm-check tarball wheel image reproducible site tools install test test-long test-all demo shell bench soak matrix brokers book picture fuzz lint deny msrv portable deb-source dist clean
.PHONY: $(TARGETS)

# Otherwise `make tests` would succeed and do nothing, because there is a directory of this name.
UNKNOWN := $(filter-out $(TARGETS),$(MAKECMDGOALS))
ifneq ($(UNKNOWN),)
$(error There is no target $(UNKNOWN); `make help` lists the targets)
endif

help:
	@echo 'build    the product, in release mode          install  copy it below DESTDIR, as packages do'
	@echo 'demo     show a login and a job in a site      shell    a shell as alice in a site'
	@echo 'deb      Debian packages of it, in target/deb  book     the documents as HTML, in target/book'
	@echo 'arm64    Debian packages for arm64, cross-built in a chroot, in target/deb-arm64'
	@echo 'rpm      RPM packages for RHEL 8-10 and SUSE 15/16, in target/rpm; needs zig  rpm-check  their tests'
	@echo 'tarball  archives to unpack, in target/tarball; needs zig        wheel  a Python wheel of mytoken-ssh; needs maturin'
	@echo 'image    container images, in target/image; needs buildah'
	@echo 'reproducible  build the packages twice in two directories and compare; PACKAGES=deb|rpm|tarball|wheel, all by default'
	@echo 'dist     archives, licences and checksums of a release, in target/dist'
	@echo 'deb-source  the Debian source package, built in a root file system of ROOT=bookworm|trixie|sid, all by default'
	@echo 'picture  the terminal picture of README          clean    remove all that was built'
	@echo 'earlier  packages of an earlier commit, for the stories about upgrades'
	@echo 'test     all tests, ROOT=bookworm|trixie|sid, ALSO= further ones for one story   lint     formatting, clippy, rustdoc, licences'
	@echo 'test-long  the same with the long forms of stories that have one; ten minutes more'
	@echo 'test-all  this on each release (ROOT= for one), with all other packages, a second build of them to compare, and an upgrade'
	@echo '          from an earlier commit; hours          extras   install what only its tests need'
	@echo 'bench    measure run times and sizes, into target/bench.json'
	@echo 'soak     run 220 jobs for 15 minutes while servers and agents fail; SOAK= passes arguments on'
	@echo 'matrix   each fault at each moment of a job, ROOT=bookworm|trixie|sid, all by default'
	@echo 'brokers  all shapes of jobs and the short soak with two brokers, ROOT=bookworm|trixie, both by default'
	@echo 'fuzz     fuzz each parser of foreign input for FUZZ_SECONDS [60]'
	@echo 'deny     licences and sources of the dependencies, by cargo-deny; a part of lint'
	@echo 'msrv     check with the oldest supported compiler  portable  check mytoken-ssh for macOS and FreeBSD'
	@echo 'toolchain  on Debian, install what is missing: a C compiler, Rust, mmdebstrap, debhelper; demo and test do this too'

# Only these targets install packages on the host, and only missing ones. All other targets say what is missing.
MISSING := $(if $(filter toolchain extras demo test test-long,$(MAKECMDGOALS)),install,check)

toolchain: debhelper

# Programs without which tests of `test-all` would be skipped.
extras:
	@tests/testbed/bootstrap $(MISSING) extras

compiler:
	@tests/testbed/bootstrap $(MISSING) compiler

mmdebstrap: compiler
	@tests/testbed/bootstrap $(MISSING) site

debhelper: compiler
	@tests/testbed/bootstrap $(MISSING) packages

build: compiler
	@echo 'Building the product in release mode. The first time takes several minutes on two cores.'
	CARGO='$(CARGO)' CARGO_TARGET_DIR='$(abspath $(TARGET_DIR))' packaging/compile build

# The whole workspace in cargo's dev profile: the testbed, the test server, and the product that demo and shell install. It is one
# call in one profile, so that no dependency is compiled twice: cargo shares nothing between profiles.
site: compiler
	@echo 'Building the product, the test servers and the testbed for tests. The first time takes about two minutes on two cores.'
	$(CARGO) build --locked --workspace

# The modules that panic on request, for tests. They are in a directory of their own, because both builds have the same file names. The
# tests of pam-mytoken use the same build of its module.
tools: site
	$(CARGO) build --locked -p slurm-spank --features panic-injection --target-dir $(TARGET_DIR)/tmp/panic-injection
	$(CARGO) build --locked -p pam-mytoken --features scripted,panic-injection --target-dir $(TARGET_DIR)/tmp/panic-injection

# The release build, packaged. packaging/debian says which package gets which file.
deb: debhelper build
	@packaging/make-deb $(TARGET_DIR)/deb $(TARGET_DIR)/release

# DIST=--uncommitted accepts a working tree with changes.
dist: compiler
	@CARGO='$(CARGO)' packaging/make-dist $(DIST) $(TARGET_DIR)/dist

deb-source: mmdebstrap deb dist
	@$(AS_ROOT) packaging/deb-source $(TARGET_DIR)/dist $(TARGET_DIR)/deb-source $(TARGET_DIR)/deb $(or $(ROOT),bookworm trixie sid)

# Debian packages for arm64, built on a machine of another architecture. It has its own builds, below target/cross-arm64.
arm64: debhelper
	@$(AS_ROOT) env CARGO_HOME="$${CARGO_HOME:-$$HOME/.cargo}" packaging/cross/build $(TARGET_DIR)

# The release build against an older glibc, packaged. packaging/rpm/mytoken.spec says which package gets which file.
RPM_BUILT := $(TARGET_DIR)/$(shell uname -m)-unknown-linux-gnu/release

rpm: compiler
	@command -v rpmbuild >/dev/null || { echo 'This machine lacks rpmbuild. Install it: apt-get install rpm' >&2; exit 1; }
	@echo 'Building the product against glibc 2.28. The first time takes several minutes on two cores.'
	@packaging/rpm/build $(TARGET_DIR)
	@packaging/make-rpm $(TARGET_DIR)/rpm $(RPM_BUILT)

rpm-check: mmdebstrap site rpm
	$(AS_ROOT) env CARGO_HOME="$${CARGO_HOME:-$$HOME/.cargo}" $(CARGO) test --locked -p testbed --test stories -- rpm::

# The same build, as archives for systems without our packages.
tarball: compiler
	@echo 'Building the product against glibc 2.28. The first time takes several minutes on two cores.'
	@packaging/rpm/build $(TARGET_DIR)
	@packaging/make-tarball $(TARGET_DIR)/tarball $(RPM_BUILT)

wheel: compiler
	@packaging/make-wheel $(TARGET_DIR)/wheel $(TARGET_DIR)

# IMAGE_RELEASE is the release of Debian inside.
image: mmdebstrap deb
	@packaging/make-image $(TARGET_DIR)/image $(TARGET_DIR)/deb $(IMAGE_RELEASE)

reproducible: compiler
	@packaging/reproducible $(PACKAGES)

# Directory of zsh's completions: that of Debian. Other distributions have share/zsh/site-functions.
ZSH_DIR ?= $(PREFIX)/share/zsh/vendor-completions

# Installs the files that packages ship. It builds nothing: `build` must have run before.
PRODUCT := libpam_mytoken.so libspank_mytoken.so mytoken-ssh mytokenctl mytokend mytoken-submit
INSTALL_BUILT := install -D $(if $(STRIP),-s --strip-program=$(STRIP))

install:
	@for file in $(PRODUCT); do \
	    [ -e $(BUILT)/$$file ] || { echo "$(BUILT)/$$file is missing. Run \`make build\` first." >&2; exit 1; }; \
	done
	$(INSTALL_BUILT) -m 0644 $(BUILT)/libpam_mytoken.so $(DESTDIR)$(PAM_DIR)/pam_mytoken.so
	$(INSTALL_BUILT) -m 0644 $(BUILT)/libspank_mytoken.so $(DESTDIR)$(SLURM_DIR)/spank_mytoken.so
	$(INSTALL_BUILT) -m 0755 $(BUILT)/mytoken-ssh $(DESTDIR)$(PREFIX)/bin/mytoken-ssh
	$(INSTALL_BUILT) -m 0755 $(BUILT)/mytokenctl $(DESTDIR)$(PREFIX)/bin/mytokenctl
	$(INSTALL_BUILT) -m 0755 $(BUILT)/mytokend $(DESTDIR)$(PREFIX)/sbin/mytokend
	$(INSTALL_BUILT) -m 0755 $(BUILT)/mytoken-submit $(DESTDIR)$(PREFIX)/libexec/mytoken/mytoken-submit
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/mytoken packaging/plugstack.conf packaging/sshd.conf packaging/sshd-penalties.conf packaging/pam-sshd.example
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/mytoken/samples packaging/samples/*.toml
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/mytoken/monitoring packaging/monitoring/*
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/pam-configs packaging/pam-configs/*
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system packaging/systemd/*.service
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/tmpfiles.d packaging/systemd/mytoken.conf
	for section in 1 5 7 8; do \
	    install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man$$section packaging/man/*.$$section || exit 1; \
	done
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/bash-completion/completions packaging/completions/bash/*
	install -D -m 0644 -t $(DESTDIR)$(ZSH_DIR) packaging/completions/zsh/*
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d packaging/completions/fish/*

# The last line is the sum of all results: "N passed, N failed", and ", N skipped" if there are any.
test: mmdebstrap deb tools
	@$(TESTBED) $(if $(ROOT),--root $(ROOT)) test $(ALSO:%=--also %)

# The variable reaches `test` too.
test-long: export TESTBED_LONG := 1
test-long: test

# Packages of an earlier commit and programs of another one, for the stories about upgrades. None without the history.
earlier: debhelper
	@CARGO='$(CARGO)' tests/testbed/earlier $(TARGET_DIR)/earlier

# Tests of packages that were not built, and those without their programs, are skipped by `make test`. A failure on one release does not
# keep the next one from its tests.
test-all: extras rpm arm64 earlier deb-source tarball wheel image portable reproducible
	@failed=; \
	for root in $(or $(ROOT),bookworm trixie sid); do $(MAKE) test-long ROOT=$$root || failed="$$failed $$root"; done; \
	[ -z "$$failed" ] || { echo "Tests failed on:$$failed" >&2; exit 1; }

# Both use the product that `site` builds, so that they need no release build.
demo shell picture soak: export TESTBED_PROFILE ?= debug

demo: mmdebstrap site
	@$(SITE) demo

shell: mmdebstrap site
	@$(SITE) shell

# The terminal picture of README, from a real run.
picture: mmdebstrap site
	@$(SITE) picture docs/picture.svg

# Needs a machine without other load. Missed goals are shown, and the target still succeeds. BENCH= passes arguments on, e.g.
# BENCH='--scale 20 logins'.
bench: mmdebstrap deb site
	packaging/remapped $(CARGO) build --locked --release -p mytokend --example broker_load
	@$(SITE) bench $(BENCH)

# Prints what was lost beside the goals, and fails when it is more than today. `make soak SOAK=--help` shows the parameters.
soak: mmdebstrap site
	@$(SITE) soak $(SOAK)

# The long form of the failure matrix. `make test` has the short one.
matrix: mmdebstrap tools
	@for root in $(or $(ROOT),bookworm trixie sid); do \
	    $(AS_ROOT) env CARGO_HOME="$${CARGO_HOME:-$$HOME/.cargo}" TESTBED_PROFILE=debug TESTBED_MATRIX=long TESTBED_ROOT=$$root \
	        $(CARGO) test --locked -p testbed --test stories -- --nocapture --test-threads 1 failure_matrix:: || exit 1; \
	done

# Stories of jobs with nodes that ask two brokers. `make test` has them in direct mode, and the stories of the broker itself.
brokers: mmdebstrap tools
	@for root in $(or $(ROOT),bookworm trixie); do \
	    $(AS_ROOT) env CARGO_HOME="$${CARGO_HOME:-$$HOME/.cargo}" TESTBED_PROFILE=debug TESTBED_BROKERS=2 TESTBED_ROOT=$$root \
	        $(CARGO) test --locked -p testbed --test stories -- --test-threads 2 shapes:: soak:: || exit 1; \
	done

# The documents as a book. Pages outside of docs belong to it, so it is built from a copy with one root.
BOOK_SOURCE := $(TARGET_DIR)/book-source

book:
	@command -v mdbook >/dev/null || { echo 'mdbook is missing: cargo install --locked mdbook' >&2; exit 1; }
	@rm -rf $(BOOK_SOURCE) && mkdir -p $(BOOK_SOURCE)
	@cp -a --parents *.md LICENSE-* THIRD-PARTY.txt docs packaging mytoken-wire/src/agent tests/captures/README.md $(BOOK_SOURCE)
	@mv $(BOOK_SOURCE)/docs/book.toml $(BOOK_SOURCE)
	@sed 's,](\([^.]\),](docs/\1,; s,](\.\./,](,' docs/SUMMARY.md >$(BOOK_SOURCE)/SUMMARY.md && rm $(BOOK_SOURCE)/docs/SUMMARY.md
	mdbook build --dest-dir $(abspath $(TARGET_DIR))/book $(BOOK_SOURCE)

# Runs the fuzz target of each parser of foreign input. FUZZ= selects some, e.g. FUZZ='prompt names'.
fuzz: compiler
	@CARGO='$(CARGO)' FUZZ_SECONDS='$(or $(FUZZ_SECONDS),60)' fuzz/run $(FUZZ)

lint: compiler
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	@# The check does not link, so any path will do. It prevents a build of libFuzzer itself, which needs a C++ compiler.
	CUSTOM_LIBFUZZER_PATH=/usr/lib/libFuzzer.a RUSTFLAGS='--cfg fuzzing' $(CARGO) check --locked --manifest-path fuzz/Cargo.toml --target-dir $(TARGET_DIR)/fuzz-check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps --document-private-items
	@$(MAKE) --no-print-directory deny

deny: compiler
	@# cargo-deny reads the whole lock file, also the dependencies of other platforms.
	$(CARGO) fetch --locked
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --locked --offline check licenses bans sources; \
	else echo 'skipped licences, bans and sources: cargo-deny is not installed (cargo install --locked cargo-deny)'; fi

msrv: mmdebstrap site
	@$(CARGO) fetch --locked
	@$(AS_ROOT) env CARGO_HOME="$${CARGO_HOME:-$$HOME/.cargo}" $(TESTBED) msrv

# Checks that mytoken-ssh compiles for systems whose standard library is not at hand.
portable: mmdebstrap site
	@$(CARGO) fetch --locked
	@$(AS_ROOT) env CARGO_HOME="$${CARGO_HOME:-$$HOME/.cargo}" $(TESTBED) portable

clean:
	$(AS_ROOT) rm -rf $(TARGET_DIR)/roots
	$(CARGO) clean
