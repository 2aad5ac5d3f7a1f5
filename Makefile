.PHONY: help build test bench bench-peers race fuzz generate lint ci image demo-local

help: ## print the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /	/' | expand -t 12

build: ## build ./vtpu
	go build -o vtpu .

test: ## all tests
	go test ./...

race: ## all tests with the race detector
	go test -race -short ./...

bench: ## time of a training step, of a hop, of the products
	go test ./pipelines ./stages/link/ring ./compute/kernel -run - -bench .

fuzz: ## every reader against random input, a minute each
	@for f in strict:FuzzDecode strict:FuzzSet; do go test ./pipelines/$${f%:*} -run - -fuzz "^$${f#*:}$$" -fuzztime 60s || exit 1; done
	@for f in Safetensors Npy Npz Idx Phext; do go test ./stages/tensorfile -run - -fuzz "^Fuzz$$f$$" -fuzztime 60s || exit 1; done
	@for f in wire:FuzzDecode reclog:FuzzStream; do go test ./stages/$${f%:*} -run - -fuzz "^$${f#*:}$$" -fuzztime 60s || exit 1; done
	@for f in CSV JSONL; do go test ./gather -run - -fuzz "^Fuzz$$f$$" -fuzztime 60s || exit 1; done

lint: ## golangci-lint, if it is installed
	golangci-lint run ./...

bench-peers: ## both sides of the comparison with NumPy, PyTorch, C, OpenBLAS, gonum and GoMLX, whichever are here: one table
	go run ./bench

generate: ## write the assembly anew
	go generate ./compute/kernel ./smtpool/ruler

ci: ## what every change passes
	.ci/run

image: ## the container image, built without a registry
	mkdir -p .build/root/data
	CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o .build/vtpu .
	docker build -q -f .ci/Dockerfile --target prebuilt -t vtpu:1.0.0 .

demo-local: build ## a broker, a coordinator and three workers without containers
	.ci/demo-local
