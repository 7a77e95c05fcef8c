# `make demo` shows strongroom at work; `make test` runs all tests. Both build what they need.
# `make demo-postgres` runs a demo with a PostgreSQL server, `make demo-azure` one with a Key Vault.

.PHONY: all build assurance advisories bench bench-check conformance demo demo-azure demo-postgres demo-python keyvault-server test test-keyvault test-python lint features fmt doc clean wasm-target wheel postgres example fuzz

CARGO ?= cargo
# RUSTFLAGS would override the flags in the example's own `.cargo/config.toml`.
EXAMPLE_CARGO := env -u RUSTFLAGS $(CARGO)
TARGET ?= $(CURDIR)/target
GUESTS := $(TARGET)/guests
KEYVAULT := $(TARGET)/keyvault
EXAMPLE := $(GUESTS)/wasm32-wasip2/release/training-example.wasm

all: build

# Installs the WebAssembly target of the Rust toolchain if it is missing.
wasm-target:
	@scripts/wasm-target.sh

# Checks for the PostgreSQL server programs. If they are missing, explains how to install them, or
# installs them with INSTALL=1.
postgres:
	@scripts/postgres.sh

# Builds the program in the profile that demo and tests share.
build:
	@scripts/announce-build.sh $(TARGET)
	$(CARGO) build --locked --package strongroom-cli --target-dir $(TARGET)

# Builds the guests of the demo in the same way as a component author would.
example: wasm-target
	cd guest-example/rust && $(EXAMPLE_CARGO) build --locked --release --target wasm32-wasip2 --bin training-example --target-dir $(GUESTS)
	cd guest-example/rust && $(CARGO) build --locked --release --bin open-model --target-dir $(GUESTS)
	cd tests/guests && $(CARGO) build --locked --release --target wasm32-wasip2 --bin thief --target-dir $(GUESTS)

demo: build example
	@STRONGROOM=$(TARGET)/debug/strongroom GUESTS=$(GUESTS) scripts/demo.sh

# Runs the same training on a table of a real PostgreSQL server. Checks for PostgreSQL first,
# because building takes longer.
demo-postgres: postgres
	@$(MAKE) --no-print-directory build example
	@STRONGROOM=$(TARGET)/debug/strongroom GUESTS=$(GUESTS) scripts/demo-postgres.sh

# Builds a Python script into a component, and runs it on a file and on a table. Needs Python 3.11.
demo-python: postgres
	@$(MAKE) --no-print-directory build example
	@STRONGROOM=$(TARGET)/debug/strongroom GUESTS=$(GUESTS) scripts/demo-python.sh

# Runs the same components with the Key Vault test server instead of the local vault.
demo-azure: build example keyvault-server
	@STRONGROOM=$(TARGET)/debug/strongroom GUESTS=$(GUESTS) KEYVAULT_SERVER=$(KEYVAULT)/debug/keyvault-server scripts/demo-azure.sh

# Builds the Key Vault test server together with its tests. The dependencies of the tests enable
# features, so separate builds would compile everything twice.
keyvault-server:
	cd tests/keyvault && $(CARGO) build --locked --bins --test behaviour --target-dir $(KEYVAULT)

# Runs unit, property, integration and command-line tests. The integration tests build their guests
# and the Key Vault test server, and start a real PostgreSQL server.
test: wasm-target test-keyvault test-python
	@INSTALL=1 scripts/postgres.sh
	cd guest-example/rust && $(CARGO) test --locked --release --target-dir $(GUESTS)
	cd sdk/rust && $(CARGO) test --locked --release --target-dir $(GUESTS)
	$(CARGO) test --locked --workspace --target-dir $(TARGET)

# Measures the cost compared to plain wasmtime: docs/benchmarks.md. Builds the engine again, in the
# release profile.
bench: wasm-target
	$(CARGO) bench --locked --package strongroom-cli --package strongroom-redact --bench runs --bench redact --target-dir $(TARGET)

# Checks that each benchmark works: runs it once with small inputs, in the test profile, and checks
# no times.
bench-check: wasm-target
	$(CARGO) test --locked --package strongroom-cli --package strongroom-redact --bench runs --bench redact --no-run --target-dir $(TARGET)
	timeout 900 $(CARGO) test --locked --package strongroom-cli --package strongroom-redact --bench runs --bench redact --target-dir $(TARGET)

# Regenerates docs/assurance.md from the annotations in the tests.
assurance:
	REWRITE_ASSURANCE=1 $(CARGO) test --locked --workspace --test all --target-dir $(TARGET) assurance

# Runs the WASI test programs of wasmtime and of the wasi-testsuite: docs/conformance.md says where
# WASI_TESTSUITE and WASMTIME_PROGRAMS point.
conformance: build
	@CARGO=$(CARGO) WASI_TESTSUITE="$(WASI_TESTSUITE)" WASMTIME_PROGRAMS="$(WASMTIME_PROGRAMS)" scripts/conformance.sh $(TARGET)

# Checks the dependencies against the RustSec advisory database. Needs cargo-deny or cargo-audit.
advisories:
	@CARGO=$(CARGO) scripts/advisories.sh

# Tests the Key Vault test server, and runs Microsoft's Python client against it in a virtual
# environment that the test creates once. Without Python or the packages, the client test is
# skipped; with CI=true it fails.
test-keyvault:
	cd tests/keyvault && $(CARGO) test --locked --target-dir $(KEYVAULT)

# Tests the Python package in a virtual environment with pinned packages. Without Python 3.11 or the
# packages, it is skipped; with CI=true it fails.
test-python:
	@scripts/python-tests.sh $(TARGET)/python

# Builds a Python wheel with the program and the Python package into target/wheels, and tests it. With
# WHEEL_ARCHITECTURES="x86_64 aarch64" also one for ARM, which is not tested.
wheel:
	@scripts/wheel.sh $(TARGET) $(WHEEL_ARCHITECTURES)

# Checks formatting, clippy and documentation, with warnings as errors. Checks the guests for their
# own target.
lint: wasm-target features
	$(CARGO) fmt --all --check
	cd guest-example/rust && $(CARGO) fmt --all --check
	cd sdk/rust && $(CARGO) fmt --all --check
	cd tests/guests && $(CARGO) fmt --all --check
	cd tests/keyvault && $(CARGO) fmt --all --check
	cd host/cli/benches/guests && $(CARGO) fmt --all --check
	cd fuzz && $(CARGO) fmt --all --check
	cd tests/conformance && $(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --target-dir $(TARGET) -- -D warnings
	cd guest-example/rust && $(CARGO) clippy --locked --release --all-targets --target-dir $(GUESTS) -- -D warnings
	cd guest-example/rust && $(EXAMPLE_CARGO) clippy --locked --release --target wasm32-wasip2 --target-dir $(GUESTS) -- -D warnings
	cd sdk/rust && $(CARGO) clippy --locked --release --all-targets --target-dir $(GUESTS) -- -D warnings
	cd tests/guests && $(CARGO) clippy --locked --release --workspace --target wasm32-wasip2 --target-dir $(GUESTS) -- -D warnings
	cd tests/keyvault && $(CARGO) clippy --locked --all-targets --target-dir $(KEYVAULT) -- -D warnings
	cd host/cli/benches/guests && $(CARGO) clippy --locked --release --target wasm32-wasip2 --target-dir $(GUESTS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --target-dir $(TARGET)
	cd tests/keyvault && RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --target-dir $(KEYVAULT)

# Checks that each combination of features that an embedder can choose compiles without warnings.
features:
	$(CARGO) clippy --locked --package strongroom-vault --lib --target-dir $(TARGET) -- -D warnings
	for set in "" "--features local-vault" "--features vault-cases"; do \
		$(CARGO) clippy --locked --package strongroom --lib $$set --target-dir $(TARGET) -- -D warnings || exit 1; \
	done

fmt:
	$(CARGO) fmt --all
	cd guest-example/rust && $(CARGO) fmt --all
	cd sdk/rust && $(CARGO) fmt --all
	cd tests/guests && $(CARGO) fmt --all
	cd tests/keyvault && $(CARGO) fmt --all
	cd host/cli/benches/guests && $(CARGO) fmt --all
	cd fuzz && $(CARGO) fmt --all
	cd tests/conformance && $(CARGO) fmt --all

doc:
	$(CARGO) doc --workspace --no-deps --target-dir $(TARGET) --open

clean:
	$(CARGO) clean --target-dir $(TARGET)

# Runs each fuzzer for FUZZ_SECONDS: docs/fuzzing.md.
FUZZ_SECONDS ?= 20
fuzz:
	@CARGO=$(CARGO) scripts/fuzz.sh $(FUZZ_SECONDS)
