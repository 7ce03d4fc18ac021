package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

// A daemon tells whoever started it how it went in the datagrams of
// sd_notify(3): systemd, or our own start, which listens in the same way.
// READY=1 comes with STATUS, a sentence for people; a failure is STATUS and
// EXIT_STATUS, and X_HINT if there is something to do about it.

// A notifier speaks to the socket that was named when the program began; the
// name is then no longer in the environment, so ssh does not get it.
type notifier struct {
	mu     sync.Mutex
	socket string // "": nobody listens
}

func newNotifier() *notifier {
	n := &notifier{socket: os.Getenv("NOTIFY_SOCKET")}
	os.Unsetenv("NOTIFY_SOCKET")
	return n
}

// say sends variables. Nobody may be listening, or not any more: start leaves
// when we are ready.
func (n *notifier) say(variables ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.socket == "" {
		return
	}
	if notify(n.socket, strings.Join(variables, "\n")) != nil {
		n.socket = ""
	}
}

// notify sends one message. An abstract socket's name begins with @.
func notify(socket, message string) error {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(message))
	return err
}

// A startWatch is start's end: it waits for the daemon's word.
type startWatch struct {
	dir     string
	conn    *net.UnixConn
	signals chan os.Signal // that came since, also before there is a daemon
}

// watchStart makes the socket. The daemon will no longer be root when it says
// READY, so anybody may write to it; nobody else knows its name.
func watchStart() (*startWatch, error) {
	dir, err := shortDir("minimail-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a directory for the start: %w", err)
	}
	w := &startWatch{dir: dir, signals: make(chan os.Signal, 1)}
	signal.Notify(w.signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if err := os.Chmod(dir, 0o711); err != nil {
		w.close()
		return nil, err
	}
	w.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: w.socket(), Net: "unixgram"})
	if err != nil {
		w.close()
		return nil, fmt.Errorf("cannot listen for the daemon's word: %w", err)
	}
	if err := os.Chmod(w.socket(), 0o666); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *startWatch) socket() string { return filepath.Join(w.dir, "notify") }

func (w *startWatch) close() {
	signal.Stop(w.signals)
	if w.conn != nil {
		w.conn.Close()
	}
	os.RemoveAll(w.dir)
}

// wait returns the daemon's sentence when it is ready, and an error with its
// exit status when it has failed, has died without a word, or a signal has
// stopped the wait. After an error no daemon is left.
func (w *startWatch) wait(child *os.Process) (string, error) {
	died := make(chan *os.ProcessState, 1)
	go func() { // ends with the child, or with this process
		state, _ := child.Wait()
		died <- state
	}()
	words := make(chan map[string]string, 1)
	go func() { // ends when the socket is closed
		for {
			m, err := w.receive()
			if err != nil {
				return
			}
			words <- m
		}
	}()
	for {
		select {
		case m := <-words:
			if m["READY"] == "1" {
				return m["STATUS"], nil
			}
			if err := lastWord(m); err != nil {
				<-died
				return "", err
			}
		case state := <-died:
			// Its last word may have come at the same time.
			_ = w.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			select {
			case m := <-words:
				if err := lastWord(m); err != nil {
					return "", err
				}
			case <-time.After(200 * time.Millisecond):
			}
			return "", fmt.Errorf("the daemon died before it was ready: %v", state)
		case s := <-w.signals:
			_ = child.Signal(syscall.SIGTERM)
			<-died
			return "", errors.New("start was stopped by a signal: " + s.String())
		}
	}
}

// lastWord is the daemon's error, or nil if m has none.
func lastWord(m map[string]string) error {
	code, err := strconv.Atoi(m["EXIT_STATUS"])
	if err != nil {
		return nil
	}
	err = errors.New(m["STATUS"])
	if h := m["X_HINT"]; h != "" {
		err = hint(err, "%s", h)
	}
	return cli.Exit(err, code)
}

func (w *startWatch) receive() (map[string]string, error) {
	buf := make([]byte, 8192)
	n, err := w.conn.Read(buf)
	if err != nil {
		return nil, err
	}
	m := map[string]string{}
	for _, line := range strings.Split(string(buf[:n]), "\n") {
		if k, v, ok := strings.Cut(line, "="); ok {
			m[k] = v
		}
	}
	return m, nil
}
