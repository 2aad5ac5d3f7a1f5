// Package ops is what operators look at: metrics for Prometheus, health, readiness and profiles over HTTP. It is the only importer of client_golang.
package ops

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"vtpu/stages"
)

// A Server answers /metrics, /healthz, /readyz and /debug/pprof until Close.
type Server struct {
	Mux *http.ServeMux // for more

	reg   *prometheus.Registry
	http  *http.Server
	addr  net.Addr
	wg    sync.WaitGroup
	mu    sync.Mutex
	ready func() error
	err   error
}

// Start listens on addr (host:port), which the user gave by a flag of that name. An address that is not loopback must be allowed by open: the profiles say much about a process.
func Start(flag, addr string, open bool) (*Server, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, stages.Finding{File: flag + " " + addr, Msg: "want host:port", Fix: flag + " 127.0.0.1:9090"}
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) && !open {
		return nil, stages.Finding{File: flag + " " + addr, Msg: "others could read metrics and profiles of this process", Fix: "use a loopback address, or allow it with --insecure"}
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, &stages.EnvError{Err: err, Fix: "choose another " + flag + " address"}
	}
	s := &Server{Mux: http.NewServeMux(), reg: prometheus.NewRegistry(), addr: l.Addr()}
	s.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.Mux.Handle("/metrics", promhttp.HandlerFor(s.reg, promhttp.HandlerOpts{}))
	s.Mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	s.Mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		ready := s.ready
		s.mu.Unlock()
		if ready != nil {
			if err := ready(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	})
	s.Mux.HandleFunc("/debug/pprof/", pprof.Index)
	s.Mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	s.Mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	s.Mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	s.Mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	s.http = &http.Server{Handler: s.Mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 64 << 10}
	s.wg.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.err = err
		}
	})
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.addr.String() }

// Ready sets what decides /readyz.
func (s *Server) Ready(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = f
}

// Counter shows a number that only grows.
func (s *Server) Counter(name, help string, f func() float64) {
	s.reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "vtpu", Name: name, Help: help}, f))
}

// Gauge shows a number.
func (s *Server) Gauge(name, help string, f func() float64) {
	s.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "vtpu", Name: name, Help: help}, f))
}

// Close ends the server and waits for it. Closing twice is fine.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	s.wg.Wait()
	return errors.Join(err, s.err)
}
