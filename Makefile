# medst: `make demo` shows it, `make test` proves it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
# Everything builds against the link that tools/bootstrap.sh makes; LIBTORCH=DIR is an argument to that script.
BUILD := env -u LIBTORCH cargo
# MPI=1 builds and tests everything with several processes; continuous integration does, so that nothing is built twice.
FEATURES := $(if $(MPI),--features medst-cli/nccl)
# The Python package's library is no test program, but `cargo test --lib` takes it for one.
TEST_RUNNER := --config 'target."cfg(all())".runner = "tools/not_python.sh"'
MEDST := target/release/medst
DEMO ?= demo

help:
	@echo 'make demo         build; synthetic cohort -> corpus -> pre-trained model -> result (minutes); FROM_SCRATCH=1 from random weights'
	@echo 'make serve-demo   the service and its page with the demo model (makes the demo where there is none)'
	@echo 'make test         every test'
	@echo 'make test-mpi     preparation and pre-training by several processes (needs Open MPI)'
	@echo 'make test-s3      corpora in object storage, against a server on the loopback'
	@echo 'make test-dicom   pixels of every DICOM file of pydicom against pydicom (needs PyPI)'
	@echo 'make test-croissant   the Croissant metadata of a corpus against mlcroissant (needs PyPI)'
	@echo 'make check        what continuous integration runs: format, lints, tests, documentation'
	@echo 'make bench        speed and memory against PyTorch, one table'
	@echo 'make bench-gpu    the same on a GPU (not run on one yet)'
	@echo 'make scale        tables and figures of docs/scale.md; make scale-measure measures anew what they compare with'
	@echo 'make wheel        the Python package, in dist; make test-python tests it'
	@echo 'make fuzz         fuzz what reads foreign bytes (nightly compiler, cargo-fuzz)'
	@echo 'make build        the medst command only, in target/release'
	@echo 'make clean-demo   remove what make demo made'
	@echo 'CUDA=1 builds for a GPU that is not recognised, LIBTORCH=DIR uses a libtorch of your own.'

libtorch:
	@tools/bootstrap.sh

# With the features of the whole workspace, so that what `make test` compiled is not compiled again.
build: libtorch
	$(BUILD) build --release --workspace --bins $(FEATURES)

test: libtorch
	$(BUILD) test --release --workspace $(FEATURES)

# Needs Open MPI and libclang (Debian: openmpi-bin libopenmpi-dev libclang-dev). `MPI=1 make test` has these tests among all others.
test-mpi: libtorch
	$(BUILD) test --release --workspace --features medst-cli/nccl --test distributed --test prepare_together
	$(BUILD) test --release --workspace --features medst-cli/nccl --lib $(TEST_RUNNER) -- distributed::

# Against an S3 server on the loopback, which tools/s3_server.sh installs (PyPI, 140 MB). `make test` has these tests too, where the server is installed.
test-s3: libtorch
	tools/s3_server.sh
	MEDST_NEED_S3=1 $(BUILD) test --release --workspace --test object_storage

# Every DICOM file that pydicom and pydicom-data carry, through medst and through pydicom; PyPI, 170 MB.
test-dicom:
	tools/dicom_peer.sh

# The metadata of a small corpus, judged and read by the reference program of Croissant; PyPI, 300 MB.
test-croissant: build
	tools/croissant_check.sh

check: libtorch
	$(BUILD) fmt --all --check
	$(BUILD) clippy --release --workspace --all-targets $(FEATURES) -- -D warnings
	$(MAKE) test
	RUSTDOCFLAGS='-D warnings' $(BUILD) doc --release --workspace --no-deps $(FEATURES)

demo: build
	@MEDST=$(MEDST) DEMO=$(DEMO) tools/demo.sh $(if $(FROM_SCRATCH),--from-scratch)

serve-demo: build
	@MEDST=$(MEDST) DEMO=$(DEMO) tools/serve_demo.sh

real-data: build
	@MEDST=$(MEDST) tools/real_data.sh

bench: libtorch
	tools/bench.sh

# On a machine with a GPU and torch 2.11 in PYTHON (python3 by default); see the script.
bench-gpu: libtorch
	$(BUILD) build --release --workspace --examples
	BIN=target/release/examples tools/bench_gpu.sh

# Draws what docs/scale.md shows, from docs/scale/measured.json.
scale: libtorch
	$(BUILD) build --release --workspace --example simulate_scale
	target/release/examples/simulate_scale measured=docs/scale/measured.json out=docs/scale
	python3 tools/scale_tables.py

# Needs Open MPI, and a machine with nothing else to do.
scale-measure: libtorch
	$(BUILD) build --release --workspace --features medst-cli/mpi --bins --example simulate_scale --example bench_collectives
	tools/scale.sh
	$(MAKE) scale

wheel: libtorch
	@env -u LIBTORCH tools/wheel.sh

test-python: wheel
	tools/test_python.sh

# Needs the nightly compiler and cargo-fuzz. SECONDS_EACH=600 for a longer look.
fuzz:
	cd crates/medst-data && for target in report table corpus jpeg dicom; do \
	  mkdir -p fuzz/corpus/$$target && \
	  cargo +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -max_total_time=$${SECONDS_EACH:-120} -timeout=20 -rss_limit_mb=3000; done

clean-demo:
	rm -rf $(DEMO)

.PHONY: help libtorch build test test-mpi test-s3 test-dicom test-croissant check demo serve-demo real-data bench bench-gpu scale scale-measure wheel test-python fuzz clean-demo
