// Command vtpu trains small models on CPUs. A program with stages of its own copies this file and adds an import.
package main

import (
	"os"

	_ "vtpu/backward"
	_ "vtpu/compute"
	_ "vtpu/gather"
	"vtpu/pipelines/cli"
	_ "vtpu/scatter"
	"vtpu/stages/link/broker"
	_ "vtpu/update"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr, cli.WithBroker(embed))) }

func embed(o cli.BrokerOptions) (cli.Broker, error) { return broker.Start(broker.Options(o)) }
