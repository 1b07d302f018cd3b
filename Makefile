# The two commands of a newcomer are `make demo` and `make test`.

SANDBOX_TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')
TARGET_DIR ?= $(or $(CARGO_TARGET_DIR),target)

.PHONY: help demo test cluster-test clients bench bench-proxy bench-cluster fuzz soak lint sandbox
.PHONY: k8s-setup k8s-up k8s-images k8s-apply k8s-screener k8s-demo k8s-status k8s-logs k8s-down

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 16

demo: ## Evaluate the example agents on the example tasks, with a scripted model
	demo/demo.sh

test: sandbox ## Run every test this machine can run; the others say what they lack
	tests/run.sh

cluster-test: sandbox ## Run the suites that need Kubernetes on a real cluster of this machine (root; builds it once)
	CLUSTER_INSTALL=1 tests/cluster/run.sh

clients: sandbox ## Show which real clients work through the proxy, as a table
	tests/clients/table.sh

bench: sandbox ## Measure this machine: medians on the screen, raw JSON under target/bench
	bench/run.sh

bench-proxy: ## Measure the proxy beside nginx, haproxy, mitmproxy and LiteLLM; raw JSON under target/bench
	bench/proxy/run.sh

bench-cluster: sandbox ## Measure pods, runs, builds and scaling on the test cluster (root); raw JSON under target/bench
	CLUSTER_INSTALL=1 CLUSTER_PROFILE=$(or $(BENCH_PROFILE),release) tests/cluster/run.sh bench/cluster/run.sh

k8s-setup: ## Make a kind cluster with everything in it, from nothing; carries on where it failed
	kind/setup.sh

k8s-up: ## Only the cluster: nodes, registry, network, scaler
	kind/up.sh

k8s-images: ## Only our images, into the cluster's registry
	kind/images.sh

k8s-apply: ## Only Secrets and manifests, with the images that are there
	kind/apply.sh

k8s-screener: ## Run a screener on this machine against the cluster, for class host
	kind/screener.sh

k8s-demo: ## Evaluate examples in the cluster, and show a forwarded and a denied connection
	kind/demo.sh

k8s-status: ## Show what runs and what waits in the cluster
	kind/status.sh

k8s-logs: ## Follow what API and screeners print (PART=api)
	kind/logs.sh

k8s-down: ## Remove the kind cluster and its registry
	kind/down.sh

SECONDS ?= 60
fuzz: ## Feed the proxy's parsers with mutated bytes, SECONDS for each
	ASSAY_FUZZ_SECONDS=$(SECONDS) cargo test -p assay-proxy --test fuzz -- --show-output

MINUTES ?= 60
soak: sandbox ## Let connections come and go at a proxy for MINUTES; its memory must stay flat (root)
	ASSAY_CHURN_SECONDS=$$(($(MINUTES) * 60)) ASSAY_SANDBOX_BIN=$(realpath $(TARGET_DIR))/$(SANDBOX_TARGET)/sandbox \
	  cargo test --workspace --test threats -- --show-output j1_memory_stays_flat

lint: ## Formatting, lints and documentation, warnings as errors; scripts where shellcheck is there
	if command -v shellcheck >/dev/null; then shellcheck -S warning $$(git ls-files '*.sh' ':!examples' ':!cli/templates'); fi
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items --quiet

sandbox: ## Build the static programs of a sandbox, and the one of an image build
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile sandbox --target $(SANDBOX_TARGET) \
	  -p assay-runner -p assay-init-iptables -p assay-proxy -p assay-builder
