package broker_test

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"vtpu/stages/link/broker"
)

func TestABrokerStartsAndLeavesNothing(t *testing.T) {
	b, err := broker.Start(broker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.URL(), "nats://127.0.0.1:") {
		t.Errorf("URL %s", b.URL())
	}
	dir := b.Store()
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}

func TestWhatABrokerRefuses(t *testing.T) {
	for want, o := range map[string]broker.Options{
		"is not a loopback address":     {Listen: "0.0.0.0:0"},
		"want host:port":                {Listen: "nowhere"},
		"not in 0..65535":               {Listen: "127.0.0.1:70000"},
		"a certificate and its key":     {Cert: "x"},
		"TLS":                           {Cert: "x", Key: "y"},
		"no such file":                  {Config: "missing.conf"},
		"talk in plain text over 0.0.0": {Cluster: "c", ClusterListen: "0.0.0.0:0"},
	} {
		var given broker.Mistake
		if b, err := broker.Start(o); err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, &given) {
			t.Errorf("%+v: %v, want %q", o, err, want)
			if err == nil {
				_ = b.Close()
			}
		}
	}
}

func TestAPortInUseIsSaid(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var given broker.Mistake
	b, err := broker.Start(broker.Options{Listen: l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "address already in use") || errors.As(err, &given) {
		t.Errorf("%v", err)
		if err == nil {
			_ = b.Close()
		}
	}
}
