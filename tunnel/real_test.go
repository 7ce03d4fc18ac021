package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// reserved is a port of our own at which nobody listens. Another program that
// sets SO_REUSEADDR, as Go's listeners do, may.
func reserved(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(name.(*unix.SockaddrInet4).Port)
}

// nearEndFor is an address for a near end of its own.
func nearEndFor(t *testing.T, network string) string {
	t.Helper()
	if network == "unix" {
		return filepath.Join(short(t), "near")
	}
	return net.JoinHostPort("127.0.0.1", reserved(t))
}

// supervised is a running tunnel with the echo behind it.
func supervised(t *testing.T, network, address string, cfg Config) *Tunnel {
	t.Helper()
	cfg.Command, cfg.Name = runs(fake("echo", network, address)), "far"
	tunnel := New(cfg)
	tunnel.between = 0
	ctx, stop := context.WithCancel(context.Background())
	go tunnel.Run(ctx)
	t.Cleanup(func() {
		stop()
		<-tunnel.stopped
	})
	return tunnel
}

func TestATunnelIsTransparent(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			address := nearEndFor(t, network)
			tunnel := supervised(t, network, address, Config{})
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			asked := 0
			c, err := tunnel.Dial(ctx, network, address, func(_ context.Context, c net.Conn) error { asked++; return nil })
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			sent := make([]byte, 3<<20+17)
			_, _ = rand.Read(sent)
			go func() {
				// Without WriteTo, so that the connection's ReadFrom is used.
				_, _ = io.Copy(c, struct{ io.Reader }{bytes.NewReader(sent)})
				_ = c.CloseWrite()
			}()
			_ = c.NetConn().SetReadDeadline(time.Now().Add(soon))
			got := new(bytes.Buffer)
			if _, err := io.Copy(got, c); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), sent) {
				t.Errorf("sent %d bytes, got %d others", len(sent), got.Len())
			}
			if asked != 1 {
				t.Errorf("asked %d times whether the far end is there", asked)
			}
		})
	}
}

func TestSSHEndsAfterItsLastClientAndIsLaunchedAgain(t *testing.T) {
	address := nearEndFor(t, "tcp")
	log := new(logBook)
	tunnel := supervised(t, "tcp", address, Config{Log: zerolog.New(log)})
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		c, err := tunnel.Dial(ctx, "tcp", address, nil)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		<-c.l.ended
	}
	for _, event := range []string{"launched ssh", "the tunnel answers", "countdown started", "time's up", "killing ssh", "the tunnel is closed"} {
		log.find(t, event)
		if n := log.count(event); n < 3 && event != "the tunnel is closed" {
			t.Errorf("%q was logged %d times, want 3", event, n)
		}
	}
}

func TestLaunchesLeaveNothingBehind(t *testing.T) {
	rounds := func() {
		address := nearEndFor(t, "unix")
		tunnel := New(Config{Command: runs(fake("echo", "unix", address))})
		tunnel.between = 0
		ctx, stop := context.WithCancel(t.Context())
		go tunnel.Run(ctx)
		for range 5 {
			if c, err := tunnel.Dial(ctx, "unix", address, nil); err != nil {
				t.Error(err)
			} else {
				c.Close()
				<-c.l.ended
			}
			os.Remove(address)
		}
		stop()
		<-tunnel.stopped
		command(t, Config{Command: runs([]string{address})}).end(t) // that cannot be run
	}
	rounds() // what the runtime keeps, it has now
	goroutines, open := runtime.NumGoroutine(), descriptors()
	rounds()
	for deadline := time.Now().Add(soon); runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, before: %d\n%s", runtime.NumGoroutine(), goroutines, stacks[:runtime.Stack(stacks, true)])
		}
	}
	if now := descriptors(); len(now) > len(open) {
		t.Errorf("descriptors %v, before: %v", now, open)
	}
}

func TestTheTunnelDoesNotSurviveItsParent(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "freebsd" {
		t.Skip("no parent-death signal here")
	}
	socket := filepath.Join(short(t), "near")
	argv := fake("parent", socket)
	parent := exec.Command(argv[0], argv[1:]...)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer parent.Process.Kill()
	if word, err := bufio.NewReader(out).ReadString('\n'); word != "up\n" {
		t.Fatalf("the parent says %q, %v", word, err)
	}
	c := dialSoon(t, "unix", socket)
	if err := parent.Process.Kill(); err != nil { // -9
		t.Fatal(err)
	}
	if err := parent.Wait(); err == nil {
		t.Error("the parent ended well")
	}
	seesEnd(t, c)
}
