package nats_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"vtpu/stages"
	"vtpu/stages/link"
	"vtpu/stages/link/broker"
	"vtpu/stages/link/linktest"
	"vtpu/stages/link/nats"
)

// identity is a key pair and its public key.
type identity struct {
	nkeys.KeyPair
	public string
}

func newIdentity(t *testing.T, make func() (nkeys.KeyPair, error)) identity {
	t.Helper()
	k, err := make()
	if err != nil {
		t.Fatal(err)
	}
	public, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return identity{k, public}
}

func signed(t *testing.T, c jwt.Claims, by identity) string {
	t.Helper()
	s, err := c.Encode(by)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// credentials writes a credentials file of a user, as nsc does.
func credentials(t *testing.T, file string, account identity, change func(*jwt.UserClaims)) string {
	t.Helper()
	user := newIdentity(t, nkeys.CreateUser)
	c := jwt.NewUserClaims(user.public)
	if change != nil {
		change(c)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.FormatUserConfig(signed(t, c, account), seed)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A broker that trusts an operator takes the users of its accounts and nobody else, and an account does not hear another one.
func TestCredentialsFiles(t *testing.T) {
	dir := t.TempDir()
	operator, system := newIdentity(t, nkeys.CreateOperator), newIdentity(t, nkeys.CreateAccount)
	one, two, stranger := newIdentity(t, nkeys.CreateAccount), newIdentity(t, nkeys.CreateAccount), newIdentity(t, nkeys.CreateAccount)
	o := jwt.NewOperatorClaims(operator.public)
	o.SystemAccount = system.public
	config := fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {\n", signed(t, o, operator), system.public)
	for _, a := range []identity{system, one, two} {
		c := jwt.NewAccountClaims(a.public)
		if a != system {
			c.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
		}
		config += fmt.Sprintf("  %s: %s\n", a.public, signed(t, c, operator))
	}
	file := filepath.Join(dir, "server.conf")
	if err := os.WriteFile(file, []byte(config+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := start(t, broker.Options{Config: file, Listen: "127.0.0.1:0"})
	creds := credentials(t, filepath.Join(dir, "one.creds"), one, nil)
	linktest.Run(t, func(t *testing.T) link.Bus { return connect(t, nats.Options{URL: b.URL(), Creds: creds}) })
	if s, err := connect(t, nats.Options{URL: b.URL(), Creds: creds}).JetStream("vtpu", nats.StreamOptions{Memory: true}); err != nil {
		t.Error(err)
	} else if err := s.Close(); err != nil {
		t.Error(err)
	}

	refused(t, nats.Options{URL: b.URL()}, stages.ExitEnv, "Authorization")
	refused(t, nats.Options{URL: b.URL(), Creds: credentials(t, filepath.Join(dir, "stranger.creds"), stranger, nil)}, stages.ExitEnv, "Authorization")
	expired := credentials(t, filepath.Join(dir, "expired.creds"), one, func(c *jwt.UserClaims) { c.Expires = 1000 })
	refused(t, nats.Options{URL: b.URL(), Creds: expired}, stages.ExitEnv, "Authorization")

	heard := make(chan string, 10)
	mine := connect(t, nats.Options{URL: b.URL(), Creds: creds})
	stop, err := mine.Subscribe("vtpu.x", func(b []byte) { heard <- string(b) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := mine.Flush(); err != nil {
		t.Fatal(err)
	}
	other := connect(t, nats.Options{URL: b.URL(), Creds: credentials(t, filepath.Join(dir, "two.creds"), two, nil)})
	if err := other.Publish("vtpu.x", []byte("foreign")); err != nil {
		t.Fatal(err)
	}
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := mine.Publish("vtpu.x", []byte("own")); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "own" {
		t.Errorf("heard %q", got)
	}
}
