// Package nats carries frames over NATS: core NATS for speed, JetStream where what is under way must outlive the broker. It is the only importer
// of nats.go.
package nats

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"vtpu/stages"
)

// Options say how to reach a broker.
type Options struct {
	URL       string // nats://host:port, tls://host:port, several with commas between
	Creds     string // credentials file (JWT and seed)
	NKey      string // file with an nkey seed
	CA        string // certificates that the broker's is checked against; "" is the system's
	Cert, Key string // client certificate
	Insecure  bool   // plain text to an address that is not loopback
	Name      string // of the connection, for the broker's monitoring

	// InProcess connects to a broker of this process instead of URL, without a socket between; nil is fine.
	InProcess interface{ InProcessConn() (net.Conn, error) }

	// Lost and Back are told when the connection breaks and when it is there again; nil is fine.
	Lost func(error)
	Back func()
	// Slow is told of messages that were dropped here because nobody took them; nil is fine.
	Slow func(error)
}

// check refuses what would be sent in plain text to another machine.
func (o *Options) check() error {
	if o.URL == "" {
		return stages.Finding{File: "--nats", Msg: "no address of a broker", Fix: "embedded, or nats://host:4222"}
	}
	for one := range strings.SplitSeq(o.URL, ",") {
		s := strings.TrimSpace(one)
		if !strings.Contains(s, "://") {
			s = "nats://" + s
		}
		u, err := url.Parse(s)
		if err != nil || u.Host == "" {
			return stages.Finding{File: "--nats " + one, Msg: "not an address of a broker", Fix: "embedded, or nats://host:4222"}
		}
		switch u.Scheme {
		case "nats", "ws":
			if !o.Insecure && o.CA == "" && o.Cert == "" && !loopback(u.Hostname()) {
				return stages.Finding{File: "--nats " + u.Redacted(), Msg: "would send weights and passwords in plain text to another machine",
					Fix: "use tls://, or allow it with --insecure"}
			}
		case "tls", "wss":
		default:
			return stages.Finding{File: "--nats " + u.Redacted(), Msg: fmt.Sprintf("unknown scheme %q", u.Scheme), Fix: "nats:// or tls://"}
		}
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// connectTimeout bounds one attempt to reach a broker.
const connectTimeout = 3 * time.Second

// Connect reaches a broker and keeps the connection up for good: it is made again however often it breaks.
func Connect(o Options) (*Conn, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	opts := []nats.Option{nats.Name(o.Name), nats.Timeout(connectTimeout), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond), nats.ReconnectBufSize(64 << 20), nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(3),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if o.Lost != nil && err != nil {
				o.Lost(err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			if o.Back != nil {
				o.Back()
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if o.Slow != nil {
				o.Slow(err)
			}
		}),
		nats.IgnoreAuthErrorAbort()}
	if o.InProcess != nil {
		opts = append(opts, nats.InProcessServer(o.InProcess))
	}
	if o.Creds != "" {
		if _, err := os.Stat(o.Creds); err != nil {
			return nil, stages.Finding{File: "--creds " + o.Creds, Msg: err.Error()}
		}
		opts = append(opts, nats.UserCredentials(o.Creds))
	}
	if o.NKey != "" {
		k, err := nats.NkeyOptionFromSeed(o.NKey)
		if err != nil {
			return nil, stages.Finding{File: "--nkey " + o.NKey, Msg: err.Error()}
		}
		opts = append(opts, k)
	}
	tc, err := o.tls()
	if err != nil {
		return nil, err
	}
	if tc != nil {
		opts = append(opts, nats.Secure(tc))
	}
	nc, err := nats.Connect(o.URL, opts...)
	if err != nil {
		return nil, refused(o.URL, err)
	}
	return &Conn{nc: nc}, nil
}

// tls is nil where nothing about TLS was said: a tls:// address then uses the system's certificates.
func (o *Options) tls() (*tls.Config, error) {
	if o.CA == "" && o.Cert == "" && o.Key == "" {
		return nil, nil
	}
	tc := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, stages.Finding{File: "--tls-ca " + o.CA, Msg: err.Error()}
		}
		tc.RootCAs = x509.NewCertPool()
		if !tc.RootCAs.AppendCertsFromPEM(pem) {
			return nil, stages.Finding{File: "--tls-ca " + o.CA, Msg: "holds no certificate in PEM form"}
		}
	}
	if (o.Cert == "") != (o.Key == "") {
		return nil, stages.Finding{File: "--tls-cert", Msg: "a client certificate and its key are wanted together", Fix: "--tls-cert FILE --tls-key FILE"}
	}
	if o.Cert != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, stages.Finding{File: "--tls-cert " + o.Cert, Msg: err.Error()}
		}
		tc.Certificates = []tls.Certificate{pair}
	}
	return tc, nil
}

// refused says why there is no connection, and whose turn it is.
func refused(addr string, err error) error {
	if u, perr := url.Parse(addr); perr == nil {
		addr = u.Redacted()
	}
	fix := "start one with vtpu broker --listen host:port, or name another with --nats"
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) {
		fix = "name the credentials with --creds or --nkey, or in the address"
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		fix = "name the certificate of the broker's authority with --tls-ca"
	}
	return &stages.EnvError{Err: fmt.Errorf("broker %s: %w", addr, err), Fix: fix}
}
