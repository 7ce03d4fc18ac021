package link

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Side is one of the two machines.
type Side struct {
	Address netip.Addr

	space int // a descriptor of its network namespace
	tun   *os.File
	sent  *queue
	watch atomic.Pointer[func(out bool, packet []byte)]
}

const mtu = 1500

// newSide makes a namespace, and its end of the link in it.
func newSide(address string) (*Side, error) {
	s := &Side{Address: netip.MustParseAddr(address), space: -1}
	err := elsewhere(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() (err error) {
		if s.space, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		if s.tun, err = openTUN(); err != nil {
			return err
		}
		return configure(s.Address)
	})
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// Do calls f on this side: sockets that f makes are there, and so are the
// processes that it starts, for good. f runs on a thread of its own, and what
// it starts in other goroutines is not there.
func (s *Side) Do(f func() error) error {
	return elsewhere(func() error { return unix.Setns(s.space, unix.CLONE_NEWNET) }, f)
}

// elsewhere calls f where enter leads this thread.
func elsewhere(enter, f func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(home)
	defer func() {
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread() // else the thread ends with its goroutine
		}
	}()
	if err := enter(); err != nil {
		return fmt.Errorf("cannot enter a network namespace: %w", err)
	}
	return f()
}

// openTUN makes a TUN device here.
func openTUN() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open /dev/net/tun: %w", err)
	}
	r, err := unix.NewIfreq("link")
	if err == nil {
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot make a TUN device: %w", err)
	}
	return os.NewFile(uintptr(fd), "tun"), nil // not before: now it can be polled
}

// configure gives the device its address, in a network of two, and brings it
// and the loopback up.
func configure(a netip.Addr) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	set := func(device string, what uint, value []byte) error {
		r, err := unix.NewIfreq(device)
		if err != nil {
			return err
		}
		if r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); value != nil {
			if err := r.SetInet4Addr(value); err != nil {
				return err
			}
		}
		return unix.IoctlIfreq(s, what, r)
	}
	for _, do := range []func() error{
		func() error { return set("link", unix.SIOCSIFADDR, a.AsSlice()) },
		func() error { return set("link", unix.SIOCSIFNETMASK, []byte{255, 255, 255, 0}) },
		func() error { return set("link", unix.SIOCSIFFLAGS, nil) },
		func() error { return set("lo", unix.SIOCSIFFLAGS, nil) },
	} {
		if err := do(); err != nil {
			return fmt.Errorf("cannot configure the link: %w", err)
		}
	}
	return nil
}

// Watch has f see each IPv4 packet that leaves this side (out) or reaches it, at
// that moment, also those that are lost on the way. f may be called by two
// goroutines at a time, and must not keep the packet. nil ends it.
func (s *Side) Watch(f func(out bool, packet []byte)) {
	s.watch.Store(&f)
}

func (s *Side) see(out bool, packet []byte) {
	if f := s.watch.Load(); f != nil && *f != nil {
		(*f)(out, packet)
	}
}

// Set changes the conditions for what this side sends from now on.
func (s *Side) Set(c Conditions) { s.sent.set(c) }

// send passes on what this side sends, until its device is closed.
func (s *Side) send() {
	defer close(s.sent.closed)
	buf := make([]byte, mtu)
	for {
		n, err := s.tun.Read(buf)
		if err != nil {
			return
		}
		if buf[0]>>4 == 4 { // IPv6 has only its announcements to send here
			s.see(true, buf[:n])
			s.sent.put(buf[:n])
		}
	}
}

// deliver hands to what this side has sent, until its device is closed.
func (s *Side) deliver(to *Side) {
	for packet := s.sent.next(); packet != nil; packet = s.sent.next() {
		to.see(false, packet)
		_, _ = to.tun.Write(packet) // a device that is closed loses it
	}
}

func (s *Side) close() {
	if s.tun != nil {
		s.tun.Close()
	}
	if s.space >= 0 {
		unix.Close(s.space)
	}
}
