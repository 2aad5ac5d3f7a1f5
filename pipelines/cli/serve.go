package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"vtpu/pipelines"
	"vtpu/stages"
	"vtpu/stages/link"
	"vtpu/stages/link/nats"
	"vtpu/stages/rng"
)

func (a *app) serve() *cobra.Command {
	var l linkFlags
	wait := false
	cmd := &cobra.Command{
		Use: "serve RUN", Short: "Answer predictions and samples from the newest version of a run", Args: args(cobra.ExactArgs(1)),
		Long: "The run may go on meanwhile: a new checkpoint, or weights that it publishes on the broker (links: {publish_every: 20}), are taken up at once.\n" +
			"Over HTTP: /predict and /sample take JSON, /version says what is served. Over NATS: requests to vtpu.serve.NAME.predict, .sample and .version.",
		Example: "  vtpu serve runs/online-1 --http 127.0.0.1:8080\n  vtpu serve runs/names-1 --http 127.0.0.1:8080 --nats nats://127.0.0.1:4222",
		RunE: func(cmd *cobra.Command, p []string) (err error) {
			if l.metrics == "" && l.URL == "" {
				return stages.Finding{Msg: "nobody could ask", Fix: "--http 127.0.0.1:8080, or --nats nats://host:4222"}
			}
			var bus link.Bus
			var conn *nats.Conn
			if l.URL != "" {
				b, done, err := a.connect(&l, "nats", 1, "", "vtpu serve")
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, done()) }()
				bus, conn = b, b.(*nats.Conn)
			}
			log := a.logger()
			s, err := pipelines.Serve(p[0], bus, log)
			for wait && err != nil && stages.ExitCode(err) == stages.ExitUser && cmd.Context().Err() == nil { // the run has no checkpoint yet
				select {
				case <-cmd.Context().Done():
				case <-time.After(500 * time.Millisecond):
				}
				s, err = pipelines.Serve(p[0], bus, log)
			}
			if wait && cmd.Context().Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.Close()) }()
			l.http = cmd.Flags().Changed("http")
			o, end, err := a.ops(&l)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, end()) }()
			if o != nil {
				s.Handle(o.Mux)
				o.Gauge("version", "Version of the weights that is served.", func() float64 { v, _ := s.Version(); return float64(v) })
			}
			if conn != nil {
				for _, what := range []string{"predict", "sample", "version"} {
					stop, err := conn.Serve(s.Subject(what), "vtpu", func(data []byte) []byte { return s.Answer(cmd.Context(), what, data) })
					if err != nil {
						return err
					}
					defer func() { err = errors.Join(err, stop()) }()
				}
			}
			v, _ := s.Version()
			log.Info().Int64("version", v).Msg("serving")
			<-cmd.Context().Done()
			return nil
		},
	}
	l.add(cmd, "broker over which requests and new weights come")
	cmd.Flags().StringVar(&l.metrics, "http", "", "host:port for requests; the same as --metrics")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the first checkpoint of the run")
	return cmd
}

func (a *app) feed() *cobra.Command {
	var l linkFlags
	var rate, count int
	var subject string
	var seed uint64
	cmd := &cobra.Command{
		Use: "feed", Short: "Send examples to try online learning with", Args: args(cobra.NoArgs),
		Long:    "Examples of the preset online: x are 16 numbers, y is which of four directions x lies along.",
		Example: "  vtpu feed --nats nats://127.0.0.1:4222 --rate 1000",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if l.URL == "" || l.URL == embedded || rate < 1 || rate > 1_000_000 || count < 0 {
				return stages.Finding{Msg: "want --nats with the address of a broker, --rate 1 to 1000000 and --count not negative"}
			}
			bus, done, err := a.connect(&l, "nats", 1, "", "vtpu feed")
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
			r := rng.Named(seed, "feed")
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			begin, sent := time.Now(), 0
			for count == 0 || sent < count {
				due := int(time.Since(begin).Seconds()*float64(rate)) + 1
				for ; sent < due && (count == 0 || sent < count); sent++ {
					b, err := json.Marshal(example(r, uint64(sent)))
					if err != nil {
						return err
					}
					if err := bus.Publish(subject, b); err != nil {
						log.Warn().Err(err).Msg("an example was not sent")
					}
				}
				select {
				case <-cmd.Context().Done():
					count = max(sent, 1)
				case <-tick.C:
				}
			}
			fmt.Fprintf(a.out, "%d examples sent\n", sent)
			return nil
		},
	}
	l.other(cmd, "broker")
	f := cmd.Flags()
	f.IntVar(&rate, "rate", 500, "examples a second")
	f.IntVar(&count, "count", 0, "examples to send; 0 goes on until it is stopped")
	f.StringVar(&subject, "subject", "online.examples", "subject to send them to")
	f.Uint64Var(&seed, "seed", 1, "seed of the examples")
	return cmd
}

// example draws an example: a normal vector, and which of the first four numbers is the largest.
func example(r rng.Stream, i uint64) any {
	x := make([]float32, 16)
	y := 0
	for k := range x {
		x[k] = float32(r.Normal(i, uint32(k)))
		if k < 4 && x[k] > x[y] {
			y = k
		}
	}
	return struct {
		X []float32 `json:"x"`
		Y int       `json:"y"`
	}{x, y}
}
