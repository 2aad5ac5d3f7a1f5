package nats_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"vtpu/stages"
	"vtpu/stages/link"
	"vtpu/stages/link/broker"
	"vtpu/stages/link/linktest"
	"vtpu/stages/link/nats"
)

func start(t *testing.T, o broker.Options) *broker.Broker {
	t.Helper()
	b, err := broker.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func connect(t *testing.T, o nats.Options) *nats.Conn {
	t.Helper()
	c, err := nats.Connect(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestCoreIsALink(t *testing.T) {
	b := start(t, broker.Options{})
	linktest.Run(t, func(t *testing.T) link.Bus { return connect(t, nats.Options{URL: b.URL()}) })
}

func TestJetStreamIsALink(t *testing.T) {
	b := start(t, broker.Options{})
	linktest.Run(t, func(t *testing.T) link.Bus {
		s, err := connect(t, nats.Options{URL: b.URL()}).JetStream("vtpu", nats.StreamOptions{Memory: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	})
}

// pair writes a certificate for 127.0.0.1, signed by ca, or by itself where ca is nil.
func pair(t *testing.T, dir, name string, ca *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: ca == nil,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	by := &authority{c, key, "", ""}
	if ca != nil {
		by = ca
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{c, key, filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")}
	for file, b := range map[string]*pem.Block{a.file: {Type: "CERTIFICATE", Bytes: der}, a.keyFile: {Type: "PRIVATE KEY", Bytes: kb}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

type authority struct {
	cert          *x509.Certificate
	key           *ecdsa.PrivateKey
	file, keyFile string
}

// refused wants an error with that exit code and these words.
func refused(t *testing.T, o nats.Options, code int, say string) {
	t.Helper()
	c, err := nats.Connect(o)
	if err == nil {
		_ = c.Close()
	}
	if stages.ExitCode(err) != code || !strings.Contains(fmt.Sprint(err), say) {
		t.Errorf("%+v: %v (exit code %d), want code %d and %q", o, err, stages.ExitCode(err), code, say)
	}
}

func TestWhoMayConnect(t *testing.T) {
	dir := t.TempDir()
	t.Run("password", func(t *testing.T) {
		b := start(t, broker.Options{User: "vtpu", Password: "secret"})
		host := strings.TrimPrefix(b.URL(), "nats://")
		connect(t, nats.Options{URL: "nats://vtpu:secret@" + host})
		refused(t, nats.Options{URL: b.URL()}, stages.ExitEnv, "Authorization")
		refused(t, nats.Options{URL: "nats://vtpu:wrong@" + host}, stages.ExitEnv, "Authorization")
	})
	t.Run("nkey", func(t *testing.T) {
		seeds := map[string]string{}
		for _, who := range []string{"known", "stranger"} {
			k, err := nkeys.CreateUser()
			if err != nil {
				t.Fatal(err)
			}
			seed, err := k.Seed()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, who), seed, 0o600); err != nil {
				t.Fatal(err)
			}
			if seeds[who], err = k.PublicKey(); err != nil {
				t.Fatal(err)
			}
		}
		b := start(t, broker.Options{NKeys: []string{seeds["known"]}})
		connect(t, nats.Options{URL: b.URL(), NKey: filepath.Join(dir, "known")})
		refused(t, nats.Options{URL: b.URL(), NKey: filepath.Join(dir, "stranger")}, stages.ExitEnv, "Authorization")
		refused(t, nats.Options{URL: b.URL(), NKey: filepath.Join(dir, "missing")}, stages.ExitUser, "missing")
		refused(t, nats.Options{URL: b.URL(), Creds: filepath.Join(dir, "missing")}, stages.ExitUser, "missing")
	})
	t.Run("TLS with a client certificate", func(t *testing.T) {
		ca := pair(t, dir, "ca", nil)
		server, client := pair(t, dir, "server", ca), pair(t, dir, "client", ca)
		other := pair(t, dir, "other", nil)
		b := start(t, broker.Options{Cert: server.file, Key: server.keyFile, CA: ca.file})
		url := "tls://" + b.URL()[strings.Index(b.URL(), "://")+3:]
		connect(t, nats.Options{URL: url, CA: ca.file, Cert: client.file, Key: client.keyFile})
		refused(t, nats.Options{URL: url, CA: ca.file}, stages.ExitEnv, "")
		refused(t, nats.Options{URL: url, CA: ca.file, Cert: other.file, Key: other.keyFile}, stages.ExitEnv, "")
		refused(t, nats.Options{URL: url, CA: other.file, Cert: client.file, Key: client.keyFile}, stages.ExitEnv, "--tls-ca")
		refused(t, nats.Options{URL: url, CA: ca.file, Cert: client.file}, stages.ExitUser, "together")
	})
	t.Run("plain text to another machine", func(t *testing.T) {
		refused(t, nats.Options{URL: "nats://198.51.100.7:4222"}, stages.ExitUser, "plain text")
		refused(t, nats.Options{URL: "nats://127.0.0.1:1,nats://broker.example:4222"}, stages.ExitUser, "plain text")
		refused(t, nats.Options{URL: "http://127.0.0.1:1"}, stages.ExitUser, "unknown scheme")
		refused(t, nats.Options{}, stages.ExitUser, "no address")
	})
}

// A client that is behind by more than a few messages is not cut off, whatever the largest message is.
func TestABurstIsNoReasonToCutAClientOff(t *testing.T) {
	const size, n = 256 << 10, 100
	b := start(t, broker.Options{MaxPayload: size})
	lost := make(chan error, 1)
	in := connect(t, nats.Options{URL: b.URL(), Lost: func(err error) {
		select {
		case lost <- err:
		default:
		}
	}})
	all := make(chan bool)
	left := n
	stop, err := in.Subscribe("burst", func([]byte) {
		if left--; left == 0 {
			close(all)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := in.Flush(); err != nil {
		t.Fatal(err)
	}
	out := connect(t, nats.Options{URL: b.URL(), InProcess: b})
	data := make([]byte, size)
	for range n {
		if err := out.Publish("burst", data); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-all:
	case err := <-lost:
		t.Fatalf("cut off: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatalf("%d of %d messages did not come", left, n)
	}
}
