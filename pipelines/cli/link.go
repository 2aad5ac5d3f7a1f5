package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vtpu/pipelines"
	"vtpu/stages"
	"vtpu/stages/link"
	"vtpu/stages/link/nats"
	"vtpu/stages/link/wm"
)

// A Broker is a NATS server in this process.
type Broker interface {
	URL() string
	InProcessConn() (net.Conn, error)
	Close() error
}

// BrokerOptions are those of broker.Options: the command line does not know the server, whoever links it in converts.
type BrokerOptions struct {
	Listen  string
	Monitor string
	Store   string
	Name    string
	Config  string

	User, Password string
	NKeys          []string
	Cert, Key, CA  string

	Cluster       string
	ClusterListen string
	Routes        []string

	MaxPayload int
	Log        string
	Insecure   bool
}

// An Option adds to the command what not every program wants to link in.
type Option func(*app)

// WithBroker makes the broker command and --nats embedded work.
func WithBroker(start func(BrokerOptions) (Broker, error)) Option {
	return func(a *app) { a.broker = start }
}

// linkFlags are those of every command that talks to a broker.
type linkFlags struct {
	nats.Options
	local   int
	metrics string
	http    bool // metrics was given as --http
}

const embedded = "embedded"

// broker are those that find a broker.
func (l *linkFlags) broker(cmd *cobra.Command, use string) {
	f := cmd.Flags()
	f.StringVar(&l.URL, "nats", os.Getenv("NATS_URL"), use+": nats://host:4222, several with commas between, or embedded for one in this process (NATS_URL)")
	l.known(f)
}

// other are those of a command that has no use for a broker of its own.
func (l *linkFlags) other(cmd *cobra.Command, use string) {
	f := cmd.Flags()
	f.StringVar(&l.URL, "nats", os.Getenv("NATS_URL"), use+": nats://host:4222, several with commas between (NATS_URL)")
	l.known(f)
	l.serves(f)
}

// known are those that a broker knows a client by, and a client a broker.
func (l *linkFlags) known(f *pflag.FlagSet) {
	f.StringVar(&l.Creds, "creds", os.Getenv("NATS_CREDS"), "credentials file for the broker (NATS_CREDS)")
	f.StringVar(&l.NKey, "nkey", os.Getenv("NATS_NKEY"), "file with the nkey seed for the broker (NATS_NKEY)")
	f.StringVar(&l.CA, "tls-ca", os.Getenv("NATS_CA"), "certificates that the broker's is checked against (NATS_CA)")
	f.StringVar(&l.Cert, "tls-cert", os.Getenv("NATS_CERT"), "client certificate for the broker (NATS_CERT)")
	f.StringVar(&l.Key, "tls-key", os.Getenv("NATS_KEY"), "key of the client certificate (NATS_KEY)")
	f.BoolVar(&l.Insecure, "insecure", os.Getenv("NATS_INSECURE") == "1", "allow plain text to an address that is not loopback, and others to read --metrics (NATS_INSECURE=1)")
}

// add is broker and what serves operators.
func (l *linkFlags) add(cmd *cobra.Command, use string) {
	l.broker(cmd, use)
	l.serves(cmd.Flags())
}

func (l *linkFlags) serves(f *pflag.FlagSet) {
	f.StringVar(&l.metrics, "metrics", "", "host:port for /metrics, /healthz, /readyz and /debug/pprof; none if left out")
}

// logger writes for people, or JSON lines with --json.
func (a *app) logger() zerolog.Logger {
	if a.json {
		return zerolog.New(a.err).With().Timestamp().Logger()
	}
	return zerolog.New(zerolog.ConsoleWriter{Out: a.err, NoColor: !isTerminal(a.err), TimeFormat: time.TimeOnly}).With().Timestamp().Logger()
}

// connect opens the bus of a kind (nats or jetstream), and the broker too if that is wanted. close ends both.
func (a *app) connect(l *linkFlags, kind string, replicas int, base, name string) (bus link.Bus, done func() error, err error) {
	log := a.logger()
	o := l.Options
	o.Name = name
	o.Lost = func(err error) { log.Warn().Err(err).Msg("the broker is away") }
	o.Back = func() { log.Info().Msg("the broker is back") }
	o.Slow = func(err error) { log.Warn().Err(err).Msg("broker") }
	stop := func() error { return nil }
	if o.URL == embedded {
		if a.broker == nil {
			return nil, nil, stages.Finding{File: "--nats embedded", Msg: "this program was built without a broker", Fix: "name one: --nats nats://host:4222"}
		}
		b, err := a.broker(BrokerOptions{Listen: "127.0.0.1:0"})
		if err != nil {
			return nil, nil, &stages.EnvError{Err: err}
		}
		stop = b.Close
		o.URL, o.InProcess = b.URL(), b
		log.Info().Str("url", o.URL).Msg("broker in this process; workers reach it there")
	}
	conn, err := nats.Connect(o)
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	bus = conn
	if kind == "jetstream" {
		if bus, err = conn.JetStream(base, nats.StreamOptions{Replicas: replicas}); err != nil {
			return nil, nil, errors.Join(&stages.EnvError{Err: err, Fix: "start the broker with JetStream (vtpu broker does)"}, conn.Close(), stop())
		}
	}
	return bus, func() error { return errors.Join(bus.Close(), stop()) }, nil
}

// recycle has the collector run each time that some 32 MiB have come over a link: nats.go takes new memory for each message, and what is used again need
// not come from the system page by page. Beside the tensors that live as long as the run, a collection would else come after as many bytes as they have.
func recycle(p *pipelines.Plan) {
	const passing, least, most = 32 << 20, 5, 400
	if os.Getenv("GOGC") == "" {
		store, _ := p.Bytes()
		debug.SetGCPercent(int(min(max(100*passing/(store+p.Layout.BodyBytes()+1), least), most)))
	}
}

// isLive says whether a pipeline learns from examples that come over a broker.
func isLive(p *pipelines.Pipeline) bool {
	return p.Data != nil && p.Data.Source.Name == "nats_source"
}

// link finds out what joins this run to its workers. It is nil where parts are computed in this process.
func (a *app) link(o *pipelines.Options, l *linkFlags, set bool) (done func() error, err error) {
	done = func() error { return nil }
	file, err := pipelines.PipelineOf(*o)
	if err != nil {
		return done, err
	}
	kinds, live := file.Links.Kinds(), isLive(file)
	if len(kinds) == 0 && set && !live {
		kinds = []string{"nats"}
	}
	if len(kinds) == 0 && l.local > 0 {
		return done, stages.Finding{File: fmt.Sprintf("--workers %d", l.local), Msg: "workers want a link", Fix: "add --nats embedded, or links: {work: gochannel} to the file; --lanes sets the lanes of one process"}
	}
	if l.local < 0 || l.local > 256 {
		return done, stages.Finding{File: fmt.Sprintf("--workers %d", l.local), Msg: "want a whole number from 0 to 256"}
	}
	var bus link.Bus
	switch {
	case len(kinds) == 0:
		if live && l.URL == "" { // before anything is written
			return done, stages.Finding{File: o.File, Msg: "its data comes over a broker", Fix: "add --nats nats://host:4222, or --nats embedded"}
		}
		if l.URL == "" || !live && file.Links.Publish == 0 {
			return done, nil
		}
		if bus, done, err = a.connect(l, "nats", 1, "", "vtpu run "+file.Name); err != nil {
			return func() error { return nil }, err
		}
		o.Live = &pipelines.Live{Bus: bus, Log: a.logger()}
		return done, nil
	case slices.Contains(kinds, "gochannel"):
		ch := wm.NewGoChannel()
		bus, done = wm.NewBus(ch, ch, 0), ch.Close
		l.local = max(l.local, 1)
	default:
		p, _, err := pipelines.Prepare(*o)
		if err != nil {
			return done, err
		}
		if l.URL == "" {
			return done, stages.Finding{File: o.File, Msg: "links: " + strings.Join(kinds, " and ") + ": a broker is wanted", Fix: "add --nats nats://host:4222, or --nats embedded"}
		}
		recycle(p)
		if bus, done, err = a.connect(l, best(kinds), p.Pipe.Links.Replicas, p.Base(), "vtpu run "+p.Pipe.Name); err != nil {
			return func() error { return nil }, err
		}
	}
	o.Link = &pipelines.Link{Bus: bus, Over: over(bus), Local: l.local, Log: a.logger(), Last: l.URL == embedded}
	switch b := bus.(type) {
	case *nats.Conn:
		o.Live = &pipelines.Live{Bus: b, Log: a.logger()}
	case *nats.Stream:
		o.Live = &pipelines.Live{Bus: b.Conn, Log: a.logger()}
	}
	return done, nil
}

// best is the kind that a connection is opened for: that of JetStream is one of NATS too.
func best(kinds []string) string {
	if slices.Contains(kinds, "jetstream") {
		return "jetstream"
	}
	return "nats"
}

// over are the buses of a connection by kind.
func over(bus link.Bus) map[string]link.Bus {
	if s, ok := bus.(*nats.Stream); ok {
		return map[string]link.Bus{"jetstream": s, "nats": s.Conn}
	}
	return nil
}

func (a *app) worker() *cobra.Command {
	o := pipelines.Options{LookAhead: -1}
	var l linkFlags
	var which string
	var once bool
	cmd := &cobra.Command{
		Use: "worker FILE", Short: "Walk parts through some stages for a run in another process", Args: args(cobra.ExactArgs(1)),
		Long: "A worker walks parts through a piece of the walk for a run that was started with the same file and --nats: forward, loss and backward, or what the\n" +
			"file's links leave to workers. Edges have the names of the stages that they leave: links: {gather: nats, scatter: nats} leaves gather,\n" +
			"{gather: nats, forward: nats, backward: nats} leaves forward to some workers, loss and backward to others. update and scatter are the run itself:\n" +
			"they write the store, which has one writer. vtpu plan FILE shows what runs where and the bytes that cross.\n\n" +
			"Workers keep nothing between parts: they may come, leave, be slow or be killed at any time; the weights end with the same bits.",
		Example: "  vtpu worker digits --nats nats://127.0.0.1:4222\n  vtpu worker my.yaml --stages gather --nats nats://127.0.0.1:4222",
		RunE: func(cmd *cobra.Command, f []string) (err error) {
			o.File = f[0]
			if err := check(o); err != nil {
				return err
			}
			if l.URL == "" || l.URL == embedded {
				return stages.Finding{File: "--nats", Msg: "a worker wants the address of a broker", Fix: "--nats nats://host:4222"}
			}
			p, _, err := pipelines.Prepare(o)
			if err != nil {
				return err
			}
			recycle(p)
			leg, err := p.Leg(which)
			if err != nil {
				return err
			}
			kinds := slices.Compact(slices.DeleteFunc([]string{leg.In, leg.Out}, func(k string) bool { return k == "" }))
			if slices.Contains(kinds, "gochannel") {
				return stages.Finding{File: o.File, Msg: "links: gochannel keeps the workers in the process of the run", Fix: "links: nats, or vtpu run --workers"}
			}
			bus, done, err := a.connect(&l, best(kinds), p.Pipe.Links.Replicas, p.Base(), "vtpu worker "+p.Pipe.Name)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, done()) }()
			_, end, err := a.ops(&l)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, end()) }()
			log := a.logger()
			log.Info().Str("pipeline", p.Pipe.Name).Str("stages", leg.String()).Msg("worker is ready")
			n, err := p.Work(cmd.Context(), &pipelines.Link{Bus: bus, Over: over(bus), Stages: leg.String(), Log: log}, once)
			if err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
			if a.json {
				a.line(struct {
					Event string `json:"event"`
					Parts int64  `json:"parts"`
				}{"done", n.Parts})
			} else {
				fmt.Fprintf(a.out, "%d parts computed\n", n.Parts)
			}
			return nil
		},
	}
	pipelineFlags(cmd, &o)
	l.other(cmd, "broker")
	cmd.Flags().StringVar(&which, "stages", "", "neighbours among gather, forward, loss and backward, with commas between; if left out, what the file's links leave to workers, or forward,loss,backward")
	cmd.Flags().BoolVar(&once, "once", false, "end with the run that it joins, instead of waiting for the next")
	return cmd
}

func (a *app) brokerCmd() *cobra.Command {
	var o BrokerOptions
	var passFile string
	cmd := &cobra.Command{
		Use: "broker", Short: "Run a NATS server with JetStream", Args: args(cobra.NoArgs),
		Example: "  vtpu broker --listen 127.0.0.1:4222 --store /var/lib/vtpu\n  vtpu broker --listen 0.0.0.0:4222 --tls-cert cert.pem --tls-key key.pem --tls-ca clients.pem",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.broker == nil {
				return stages.Finding{Msg: "this program was built without a broker"}
			}
			if passFile != "" {
				b, err := os.ReadFile(passFile)
				if err != nil {
					return stages.Finding{File: "--password-file " + passFile, Msg: err.Error()}
				}
				o.Password = strings.TrimSpace(string(b))
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(400) // nearly all that it allocates are messages passing through: collections took a third of its time
			}
			b, err := a.broker(o)
			if given := (interface{ Given() bool })(nil); errors.As(err, &given) && given.Given() {
				return stages.Finding{Msg: err.Error(), Fix: "vtpu broker --help"}
			}
			if err != nil {
				return &stages.EnvError{Err: err}
			}
			if a.json {
				a.line(struct {
					Event string `json:"event"`
					URL   string `json:"url"`
				}{"ready", b.URL()})
			} else {
				fmt.Fprintf(a.out, "broker at %s\n", b.URL())
			}
			<-cmd.Context().Done()
			return b.Close()
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Listen, "listen", "", "host:port for clients; 127.0.0.1 and a free port if left out")
	f.StringVar(&o.Monitor, "monitor", "", "host:port for monitoring over HTTP: /healthz, /varz, /jsz")
	f.StringVar(&o.Store, "store", "", "directory of JetStream; a temporary one if left out")
	f.StringVar(&o.Name, "name", "", "name of the server")
	f.StringVar(&o.Config, "config", "", "nats-server's own configuration file, for everything else")
	f.StringVar(&o.User, "user", "", "user that clients must give")
	f.StringVar(&passFile, "password-file", "", "file with the password that clients must give")
	f.StringArrayVar(&o.NKeys, "nkey", nil, "public nkey that clients may show (may be given several times)")
	f.StringVar(&o.Cert, "tls-cert", "", "certificate of the server")
	f.StringVar(&o.Key, "tls-key", "", "its key")
	f.StringVar(&o.CA, "tls-ca", "", "clients must show a certificate signed by one of these")
	f.StringVar(&o.Cluster, "cluster", "", "name of the cluster that the server belongs to")
	f.StringVar(&o.ClusterListen, "cluster-listen", "127.0.0.1:6222", "host:port for the other servers of the cluster")
	f.StringSliceVar(&o.Routes, "routes", nil, "nats://host:port of the other servers, with commas between")
	f.IntVar(&o.MaxPayload, "max-payload", 0, "largest message in bytes; 8 MiB if left out, or what --config says")
	f.StringVar(&o.Log, "log", "", `file for the server's log, "-" for the standard error`)
	f.BoolVar(&o.Insecure, "insecure", false, "allow plain text beyond the loopback address")
	return cmd
}
