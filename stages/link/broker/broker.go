// Package broker is a NATS server in this process: for the first try, for tests, and for images that hold one program. Only main and tests import it.
package broker

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Options say how a broker is reached and what it keeps. The zero value listens on a free port of the loopback address and keeps nothing.
type Options struct {
	Listen  string // host:port; "" is a free port of 127.0.0.1
	Monitor string // host:port for monitoring over HTTP (/healthz, /varz); "" is none
	Store   string // directory of JetStream; "" is a temporary one that Close removes
	Name    string // of the server; a cluster wants a name for each
	Config  string // nats-server's own configuration file, for everything else; the fields above win where they are set

	User, Password string // "" asks for none
	NKeys          []string
	Cert, Key, CA  string // TLS; with CA a client must show a certificate signed by it

	Cluster       string   // name of the cluster; "" is a server by itself
	ClusterListen string   // host:port for the other servers
	Routes        []string // nats://host:port of the other servers

	MaxPayload int    // largest message in bytes; 0 is what Config says, or 8 MiB: a message in one piece need not be put together
	Log        string // file for the server's log; "-" is the standard error, "" none
	Insecure   bool   // allow plain text beyond the loopback address
}

// A Broker runs until Close.
type Broker struct {
	s    *server.Server
	temp string
}

// startTimeout is how long a server may take until it accepts clients.
const startTimeout = 20 * time.Second

func split(what, addr string) (string, int, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("broker: %s %q: want host:port", what, addr)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 0 || n > 65535 {
		return "", 0, fmt.Errorf("broker: %s %q: the port is not in 0..65535", what, addr)
	}
	if n == 0 {
		n = server.RANDOM_PORT
	}
	return host, n, nil
}

// Loopback says whether a host is this machine and nobody else can reach it there.
func Loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func (o Options) server() (*server.Options, error) {
	so := &server.Options{}
	if o.Config != "" {
		var err error
		if so, err = server.ProcessConfigFile(o.Config); err != nil {
			return nil, fmt.Errorf("broker: %w", err)
		}
	}
	if o.Config == "" || o.Listen != "" {
		listen := o.Listen
		if listen == "" {
			listen = "127.0.0.1:0"
		}
		var err error
		if so.Host, so.Port, err = split("listen address", listen); err != nil {
			return nil, err
		}
	}
	if o.Monitor != "" {
		var err error
		if so.HTTPHost, so.HTTPPort, err = split("monitor address", o.Monitor); err != nil {
			return nil, err
		}
	}
	if o.Name != "" {
		so.ServerName = o.Name
	}
	so.JetStream, so.NoSigs, so.DisableJetStreamBanner = true, true, true
	if o.Store != "" {
		so.StoreDir = o.Store
	}
	if o.MaxPayload == 0 && o.Config == "" {
		o.MaxPayload = server.MAX_PAYLOAD_MAX_SIZE
	}
	if o.MaxPayload > 0 {
		so.MaxPayload = int32(min(o.MaxPayload, 1<<30))
		so.MaxPending = max(so.MaxPending, server.MAX_PENDING_SIZE, 2*int64(so.MaxPayload)) // 0 would be the server's own, and a client with more is cut off
	}
	if o.User != "" {
		so.Username, so.Password = o.User, o.Password
	}
	for _, k := range o.NKeys {
		so.Nkeys = append(so.Nkeys, &server.NkeyUser{Nkey: k})
	}
	if (o.Cert == "") != (o.Key == "") || o.CA != "" && o.Cert == "" {
		return nil, errors.New("broker: TLS wants a certificate and its key")
	}
	if o.Cert != "" {
		tc, err := server.GenTLSConfig(&server.TLSConfigOpts{CertFile: o.Cert, KeyFile: o.Key, CaFile: o.CA, Verify: o.CA != ""})
		if err != nil {
			return nil, fmt.Errorf("broker: TLS: %w", err)
		}
		so.TLS, so.TLSConfig, so.TLSTimeout = true, tc, 5
		so.TLSVerify = o.CA != ""
	}
	if !so.TLS && !o.Insecure && !Loopback(so.Host) {
		return nil, fmt.Errorf("broker: %s is not a loopback address and there is no TLS: give a certificate, or allow plain text with --insecure", so.Host)
	}
	if o.Cluster != "" {
		so.Cluster.Name = o.Cluster
		var err error
		if so.Cluster.Host, so.Cluster.Port, err = split("cluster address", o.ClusterListen); err != nil {
			return nil, err
		}
		if !o.Insecure && !Loopback(so.Cluster.Host) && so.Cluster.TLSConfig == nil {
			return nil, fmt.Errorf("broker: servers of the cluster would talk in plain text over %s: use a configuration file with TLS, or --insecure", so.Cluster.Host)
		}
		so.Routes = server.RoutesFromStr(strings.Join(o.Routes, ","))
		if len(so.Routes) != len(o.Routes) {
			return nil, fmt.Errorf("broker: routes %q: want nats://host:port", o.Routes)
		}
	}
	switch o.Log {
	case "":
		so.NoLog = true
	case "-":
	default:
		so.LogFile = o.Log
	}
	return so, nil
}

// A Mistake is in the options, not in the system.
type Mistake struct{ error }

// Unwrap gives what is wrong.
func (m Mistake) Unwrap() error { return m.error }

// Given says that it can be mended in what was given.
func (Mistake) Given() bool { return true }

// Start starts a server and waits until it accepts clients. An error of the options is a Mistake.
func Start(o Options) (*Broker, error) {
	so, err := o.server()
	if err != nil {
		return nil, Mistake{err}
	}
	if so.Port > 0 { // the server would try again and again
		l, err := net.Listen("tcp", net.JoinHostPort(so.Host, strconv.Itoa(so.Port)))
		if err == nil {
			err = l.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("broker: %s:%d can't be opened: %w", so.Host, so.Port, err)
		}
	}
	b := &Broker{}
	if so.StoreDir == "" {
		if b.temp, err = os.MkdirTemp("", "vtpu-broker-"); err != nil {
			return nil, fmt.Errorf("broker: %w", err)
		}
		so.StoreDir = b.temp
	}
	if b.s, err = server.NewServer(so); err != nil {
		return nil, errors.Join(fmt.Errorf("broker: %w", err), b.clean())
	}
	if !so.NoLog {
		b.s.ConfigureLogger()
	}
	b.s.Start()
	if !b.s.ReadyForConnections(startTimeout) {
		b.s.Shutdown()
		b.s.WaitForShutdown()
		return nil, errors.Join(fmt.Errorf("broker: %s:%d can't be opened, or is in use", so.Host, so.Port), b.clean())
	}
	return b, nil
}

// URL is where clients on this machine reach the broker.
func (b *Broker) URL() string {
	u, err := url.Parse(b.s.ClientURL())
	if err != nil || net.ParseIP(u.Hostname()) == nil || !net.ParseIP(u.Hostname()).IsUnspecified() {
		return b.s.ClientURL()
	}
	u.Host = net.JoinHostPort("127.0.0.1", u.Port())
	return u.String()
}

// InProcessConn connects a client of this process, without a socket between.
func (b *Broker) InProcessConn() (net.Conn, error) { return b.s.InProcessConn() }

// Store is the directory of JetStream.
func (b *Broker) Store() string {
	if c := b.s.JetStreamConfig(); c != nil {
		return filepath.Dir(c.StoreDir)
	}
	return ""
}

// Close stops the server and waits for it. Closing twice is fine.
func (b *Broker) Close() error {
	b.s.Shutdown()
	b.s.WaitForShutdown()
	return b.clean()
}

func (b *Broker) clean() error {
	if b.temp == "" {
		return nil
	}
	return os.RemoveAll(b.temp)
}
