// supervise keeps the sandbox's processes, and outlives nobody.
//
// It reads commands from its standard input, one JSON object a line, and tells what
// happens on its standard output in the same way. When its input ends - because the
// program that started it is done, or was killed, in whatever way - it stops every
// process, the later stages first, and removes the folders that it was told to.
// That is what lets tests share a control plane although a test binary has no
// hook for its end, and what makes Ctrl-C leave no process and no file behind.
//
// Only the standard library is used, so that it builds in seconds and stays small.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"sort"
	"sync"
	"syscall"
	"time"
)

// command is one line of the input.
type command struct {
	Op      string   `json:"op"`      // start, stop, signal, remove, detach
	Name    string   `json:"name"`    // the process
	Argv    []string `json:"argv"`    // start: program and arguments
	Env     []string `json:"env"`     // start: added to our own environment
	Dir     string   `json:"dir"`     // start: working folder; remove: folder to remove at the end
	Log     string   `json:"log"`     // start: file that takes its output
	Stage   int      `json:"stage"`   // start: higher stages are stopped first
	GraceMs int      `json:"graceMs"` // start: time between SIGTERM and SIGKILL; zero is SIGKILL at once
	Signal  int      `json:"signal"`  // signal: its number
}

// event is one line of the output.
type event struct {
	Event string `json:"event"` // started, exited, failed, detached
	Name  string `json:"name"`
	Pid   int    `json:"pid,omitempty"`
	Code  int    `json:"code"`
	Text  string `json:"text,omitempty"`
}

type process struct {
	name    string
	pid     int
	stage   int
	grace   time.Duration
	started int
	gone    chan struct{}
}

type supervisor struct {
	mu        sync.Mutex
	processes map[string]*process
	remove    []string
	count     int
	stopping  bool
	detached  bool
	starts    chan func()
	starting  sync.Mutex
	out       sync.Mutex
}

func main() {
	// A reader that is gone must not end us before we have cleaned up.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP)

	s := &supervisor{processes: map[string]*process{}, starts: make(chan func())}
	s.adopt()
	// Linux sends the parent-death signal when the *thread* that forked ends,
	// so that all are started by one thread that lives as long as we do.
	go func() {
		runtime.LockOSThread()
		for start := range s.starts {
			start()
		}
	}()

	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		s.end()
	}()

	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 64*1024), 4*1024*1024)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			s.tell(event{Event: "failed", Text: err.Error()})
			continue
		}
		s.obey(c)
	}
	s.mu.Lock()
	detached := s.detached
	s.mu.Unlock()
	if !detached {
		s.end()
	}
	select {} // until somebody connects to the socket, or SIGTERM
}

func (s *supervisor) tell(e event) {
	line, _ := json.Marshal(e)
	s.out.Lock()
	defer s.out.Unlock()
	_, _ = os.Stdout.Write(append(line, '\n'))
}

func (s *supervisor) obey(c command) {
	switch c.Op {
	case "start":
		done := make(chan struct{})
		s.starts <- func() { s.start(c); close(done) }
		<-done
	case "stop":
		s.mu.Lock()
		p := s.processes[c.Name]
		s.mu.Unlock()
		if p != nil {
			go stop([]*process{p})
		}
	case "signal":
		s.mu.Lock()
		p := s.processes[c.Name]
		s.mu.Unlock()
		if p != nil {
			_ = syscall.Kill(-p.pid, syscall.Signal(c.Signal))
		}
	case "remove":
		s.mu.Lock()
		s.remove = append(s.remove, c.Dir)
		s.mu.Unlock()
	case "detach":
		s.detach()
	default:
		s.tell(event{Event: "failed", Name: c.Name, Text: "unknown op " + c.Op})
	}
}

func (s *supervisor) start(c command) {
	fail := func(err error) { s.tell(event{Event: "failed", Name: c.Name, Text: err.Error()}) }
	s.mu.Lock()
	stopping, old := s.stopping, s.processes[c.Name]
	s.mu.Unlock()
	if stopping {
		return
	}
	if old != nil {
		fail(fmt.Errorf("%s runs already", c.Name))
		return
	}
	if len(c.Argv) == 0 {
		fail(fmt.Errorf("no program given"))
		return
	}
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		fail(err)
		return
	}
	defer log.Close()
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, c.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.SysProcAttr = attributes()
	s.starting.Lock()
	if err := cmd.Start(); err != nil {
		s.starting.Unlock()
		fail(err)
		return
	}
	p := &process{
		name: c.Name, pid: cmd.Process.Pid, stage: c.Stage,
		grace: time.Duration(c.GraceMs) * time.Millisecond, gone: make(chan struct{}),
	}
	s.mu.Lock()
	s.count++
	p.started = s.count
	s.processes[c.Name] = p
	s.mu.Unlock()
	s.starting.Unlock()
	s.tell(event{Event: "started", Name: c.Name, Pid: p.pid})
	go func() {
		_ = cmd.Wait()
		// What it started itself goes with it.
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		s.mu.Lock()
		delete(s.processes, c.Name)
		s.mu.Unlock()
		close(p.gone)
		s.tell(event{Event: "exited", Name: c.Name, Pid: p.pid, Code: cmd.ProcessState.ExitCode(), Text: cmd.ProcessState.String()})
	}()
}

// stop ends some processes together: SIGTERM, then SIGKILL when their time is up.
func stop(ps []*process) {
	var all sync.WaitGroup
	for _, p := range ps {
		all.Add(1)
		go func() {
			defer all.Done()
			// One that was suspended cannot act on SIGTERM.
			_ = syscall.Kill(-p.pid, syscall.SIGCONT)
			if p.grace > 0 {
				_ = syscall.Kill(-p.pid, syscall.SIGTERM)
				select {
				case <-p.gone:
					return
				case <-time.After(p.grace):
				}
			}
			_ = syscall.Kill(-p.pid, syscall.SIGKILL)
			<-p.gone
		}()
	}
	all.Wait()
}

// end stops all, stage by stage, removes what is to be removed, and exits.
func (s *supervisor) end() {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		select {}
	}
	s.stopping = true
	stages := map[int][]*process{}
	var order []int
	for _, p := range s.processes {
		if len(stages[p.stage]) == 0 {
			order = append(order, p.stage)
		}
		stages[p.stage] = append(stages[p.stage], p)
	}
	remove := s.remove
	s.mu.Unlock()
	sort.Sort(sort.Reverse(sort.IntSlice(order)))
	for _, stage := range order {
		stop(stages[stage])
	}
	endAdopted()
	for _, dir := range remove {
		_ = os.RemoveAll(dir)
	}
	os.Exit(0)
}

// detach lets all go on after our input has ended. Whoever connects to the socket
// that the event names ends them; the connection closes when all is gone.
func (s *supervisor) detach() {
	// A folder of its own, because a socket's path may have a hundred bytes at most.
	dir, err := os.MkdirTemp("", "banyan-")
	if err != nil {
		s.tell(event{Event: "failed", Text: err.Error()})
		return
	}
	path := filepath.Join(dir, "stop")
	listener, err := net.Listen("unix", path)
	if err != nil {
		s.tell(event{Event: "failed", Text: err.Error()})
		return
	}
	s.mu.Lock()
	s.detached = true
	s.remove = append(s.remove, dir)
	s.mu.Unlock()
	go func() {
		connection, err := listener.Accept()
		if err == nil {
			defer connection.Close()
			s.end()
		}
	}()
	s.tell(event{Event: "detached", Text: path})
}
