.PHONY: help build test bench race generate ci

help: ## print the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /	/' | expand -t 12

build: ## build ./vtpu
	go build -o vtpu .

test: ## all tests
	go test ./...

race: ## all tests with the race detector
	go test -race -short ./...

bench: ## time of a training step, of a hop, of the products
	go test ./pipelines ./stages/link/ring ./compute/kernel -run - -bench .

generate: ## write the assembly anew
	go generate ./compute/kernel

ci: ## what every change passes
	.ci/run
