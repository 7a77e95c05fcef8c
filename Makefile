# The two commands: `make demo` shows strongroom at work, `make test` proves what is there. Both build what they need. `make demo-postgres` is a second
# demonstration, which needs a PostgreSQL server; `make demo-azure` a third, with a Key Vault.

.PHONY: all build assurance advisories bench bench-check demo demo-azure demo-postgres keyvault-server test test-keyvault lint features fmt doc clean wasm-target postgres example fuzz

CARGO ?= cargo
# The flags of the example are in its own `.cargo/config.toml`, which RUSTFLAGS would replace.
EXAMPLE_CARGO := env -u RUSTFLAGS $(CARGO)
TARGET ?= $(CURDIR)/target
GUESTS := $(TARGET)/guests
KEYVAULT := $(TARGET)/keyvault
EXAMPLE := $(GUESTS)/wasm32-wasip2/release/training-example.wasm

all: build

# Makes the WebAssembly target of the Rust toolchain available, where it is not.
wasm-target:
	@scripts/wasm-target.sh

# Looks for PostgreSQL's server programs. Where they are missing it shows how to install them, or installs them: INSTALL=1.
postgres:
	@scripts/postgres.sh

# The host, in the one profile that demo and tests share. The integration tests are named too because what they depend on switches on features of
# crates that the engine uses as well: with them, the engine is built once for both.
build:
	$(CARGO) build --locked --workspace --bins --test all --target-dir $(TARGET)

# The guests that the demo runs, built as their authors would.
example: wasm-target
	cd guest-example/rust && $(EXAMPLE_CARGO) build --locked --release --target wasm32-wasip2 --bin training-example --target-dir $(GUESTS)
	cd guest-example/rust && $(CARGO) build --locked --release --bin open-model --target-dir $(GUESTS)
	cd tests/guests && $(CARGO) build --locked --release --target wasm32-wasip2 --bin thief --target-dir $(GUESTS)

demo: build example
	@STRONGROOM=$(TARGET)/debug/strongroom GUESTS=$(GUESTS) scripts/demo.sh

# The same training on a table of a real PostgreSQL. Looking for one comes first: building takes longer.
demo-postgres: postgres
	@$(MAKE) --no-print-directory build example
	@STRONGROOM=$(TARGET)/debug/strongroom GUESTS=$(GUESTS) scripts/demo-postgres.sh

# The same components with a Key Vault in the place of the local vault: the test server, on loopback.
demo-azure: build example keyvault-server
	@STRONGROOM=$(TARGET)/debug/strongroom GUESTS=$(GUESTS) KEYVAULT_SERVER=$(KEYVAULT)/debug/keyvault-server scripts/demo-azure.sh

# The Key Vault test server. With the tests of its own, whose dependencies switch on features: so this build and that of its tests are one.
keyvault-server:
	cd tests/keyvault && $(CARGO) build --locked --bins --test behaviour --target-dir $(KEYVAULT)

# Unit, property, integration and command-line tests. The integration tests build their guests and the Key Vault test server themselves, and run a real
# PostgreSQL.
test: wasm-target test-keyvault
	@INSTALL=1 scripts/postgres.sh
	cd guest-example/rust && $(CARGO) test --locked --release --target-dir $(GUESTS)
	$(CARGO) test --locked --workspace --target-dir $(TARGET)

# What strongroom costs beside raw wasmtime: docs/benchmarks.md. Builds the engine once more, in the release profile.
bench: wasm-target
	$(CARGO) bench --locked --package strongroom --bench runs --bench redact --target-dir $(TARGET)

# Whether each benchmark still works: once, small, as the tests are built, without a look at any time.
bench-check: wasm-target
	$(CARGO) test --locked --package strongroom --bench runs --bench redact --no-run --target-dir $(TARGET)
	timeout 900 $(CARGO) test --locked --package strongroom --bench runs --bench redact --target-dir $(TARGET)

# Regenerates docs/assurance.md from the annotations in the tests.
assurance:
	REWRITE_ASSURANCE=1 $(CARGO) test --locked --workspace --test all --target-dir $(TARGET) assurance

# Checks the dependencies against the RustSec advisory database. Needs cargo-deny or cargo-audit.
advisories:
	@CARGO=$(CARGO) scripts/advisories.sh

# The Key Vault test server: each behaviour of it, and Microsoft's own client for Python against it, in an environment that the test makes once.
# Without Python, or the packages, the latter is skipped, except with CI=true.
test-keyvault:
	cd tests/keyvault && $(CARGO) test --locked --target-dir $(KEYVAULT)

# Formatting, clippy and documentation, warnings as errors; the guests too, as what they are.
lint: wasm-target features
	$(CARGO) fmt --all --check
	cd guest-example/rust && $(CARGO) fmt --all --check
	cd tests/guests && $(CARGO) fmt --all --check
	cd tests/keyvault && $(CARGO) fmt --all --check
	cd host/benches/guests && $(CARGO) fmt --all --check
	cd fuzz && $(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --target-dir $(TARGET) -- -D warnings
	cd guest-example/rust && $(CARGO) clippy --locked --release --all-targets --target-dir $(GUESTS) -- -D warnings
	cd guest-example/rust && $(EXAMPLE_CARGO) clippy --locked --release --target wasm32-wasip2 --target-dir $(GUESTS) -- -D warnings
	cd tests/guests && $(CARGO) clippy --locked --release --workspace --target wasm32-wasip2 --target-dir $(GUESTS) -- -D warnings
	cd tests/keyvault && $(CARGO) clippy --locked --all-targets --target-dir $(KEYVAULT) -- -D warnings
	cd host/benches/guests && $(CARGO) clippy --locked --release --target wasm32-wasip2 --target-dir $(GUESTS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --target-dir $(TARGET)
	cd tests/keyvault && RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --target-dir $(KEYVAULT)

# Each choice of features that an embedder has compiles by itself and without a warning.
features:
	for set in "--no-default-features" "--no-default-features --features runtime" "--no-default-features --features local-vault" "--no-default-features --features azure" "--features vault-cases"; do \
		$(CARGO) clippy --locked --package strongroom --lib $$set --target-dir $(TARGET) -- -D warnings || exit 1; \
	done

fmt:
	$(CARGO) fmt --all
	cd guest-example/rust && $(CARGO) fmt --all
	cd tests/guests && $(CARGO) fmt --all
	cd tests/keyvault && $(CARGO) fmt --all
	cd host/benches/guests && $(CARGO) fmt --all
	cd fuzz && $(CARGO) fmt --all

doc:
	$(CARGO) doc --workspace --no-deps --target-dir $(TARGET) --open

clean:
	$(CARGO) clean --target-dir $(TARGET)

# Each reader of what others wrote, against inputs that are made up: docs/fuzzing.md.
FUZZ_SECONDS ?= 20
fuzz:
	@CARGO=$(CARGO) scripts/fuzz.sh $(FUZZ_SECONDS)
