package forward

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A relay copies what is small for all clients of a listener, in one goroutine
// and through one buffer: a client that says nothing costs neither a stack nor
// a buffer, and a line or its reply takes three system calls. Its sockets are
// not known to the runtime's poller, but to an epoll(7) set of their own.
//
// It sees a session to its end if all goes as it should. A visit with an error,
// an end that comes too early or drags on, or more to copy than fits, goes to a
// bridge, together with what could not be written. That may be done at any
// time, so whatever is out of the ordinary is left to the bridge.
type relay struct {
	ctx     context.Context
	clients *sync.WaitGroup // of the goroutines here
	stop    func() bool

	mu      sync.Mutex // never held while waiting
	set     *os.File   // the epoll set; nil: there is none yet
	epoll   int        // its number
	visits  []*visit   // by their sockets' numbers
	n       int        // how many sockets are in there
	running bool
	stopped bool
	buf     [relayBuffer]byte

	events [64]unix.EpollEvent // run's own
}

// relayBuffer is more than what is said in turn. For more splice(2) is better.
const relayBuffer = 16 << 10

func newRelay(ctx context.Context, clients *sync.WaitGroup) *relay {
	r := &relay{ctx: ctx, clients: clients}
	r.stop = context.AfterFunc(ctx, r.dissolve)
	return r
}

// close is called when clients are done.
func (r *relay) close() {
	r.stop()
	if r.set != nil {
		r.set.Close()
	}
}

// take makes a visit the relay's business, and passes on at once what the
// server has said.
func (r *relay) take(v *visit) {
	client, server := v.clientStream(), v.serverStream()
	if !v.duplicate(client, server) {
		r.clients.Go(func() { v.cross(r.ctx, client, server) })
		return
	}
	r.mu.Lock()
	said := r.copy(v, ofServer)
	r.mu.Unlock()
	client.Close() // its duplicate is what we go on with
	server.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if said != more || r.stopped || r.enter(v) != nil {
		r.handOver(v)
		return
	}
	if !r.running {
		r.running = true
		r.clients.Go(r.run)
	}
}

// enter puts both sockets into the set.
func (r *relay) enter(v *visit) error {
	if r.set == nil {
		if err := r.open(); err != nil {
			return err
		}
	}
	if more := max(v.sockets[ofClient], v.sockets[ofServer]) + 1 - len(r.visits); more > 0 {
		r.visits = append(r.visits, make([]*visit, more)...)
	}
	for _, fd := range v.sockets {
		if err := r.control(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN|unix.EPOLLRDHUP); err != nil {
			return err
		}
		r.visits[fd] = v
		r.n++
	}
	return nil
}

func (r *relay) open() (err error) {
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if err = unix.SetNonblock(r.epoll, true); err != nil { // so that the runtime's poller takes it
		unix.Close(r.epoll)
		return err
	}
	r.set = os.NewFile(uintptr(r.epoll), "relay")
	return nil
}

func (r *relay) control(op, fd int, events uint32) error {
	return unix.EpollCtl(r.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// run ends when nobody is there any more. The runtime's poller, of which our
// set is a member, calls it whenever there is something new in the set.
func (r *relay) run() {
	raw, err := r.set.SyscallConn()
	if err == nil {
		err = raw.Read(func(uintptr) (over bool) { return r.round() })
	}
	if err != nil { // dissolve's deadline, unless the poller does not want us
		r.dissolve()
	}
}

// stay is for how long, in ms, the relay itself waits for more: what is said is
// often answered at once, and its thread is awake sooner than the runtime could
// find one.
const stay = 2

// round attends to all until none is ready: the poller tells only what is new.
func (r *relay) round() (over bool) {
	for wait := 0; !over; wait = stay {
		n, _ := unix.EpollWait(r.epoll, r.events[:], wait) // EINTR is as good as 0
		if n <= 0 {
			break
		}
		over = r.attendAll(r.events[:n])
	}
	return over || r.attendAll(nil)
}

// attendAll returns true if nobody is there any more, and so run has to end.
func (r *relay) attendAll(ready []unix.EpollEvent) (over bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range ready {
		r.attend(int(e.Fd), e.Events)
	}
	r.running = r.n > 0
	return !r.running
}

// attend to a socket. The event may be about one that was another visit's a
// moment ago: copying does no harm then, nor does a bridge.
func (r *relay) attend(fd int, events uint32) {
	if fd >= len(r.visits) || r.visits[fd] == nil {
		return
	}
	v := r.visits[fd]
	from := ofClient
	if fd == v.sockets[ofServer] {
		from = ofServer
	}
	// Both directions are shut down only if the other side has ended before.
	if events&unix.EPOLLERR != 0 || events&unix.EPOLLHUP != 0 && !v.ended[1-from] {
		r.handOver(v)
		return
	}
	switch r.copy(v, from) {
	case end:
		r.end(v, from)
	case beyond:
		r.handOver(v)
	}
}

// The outcomes of copy.
const (
	more   = iota // all is copied, and there may be more later
	end           // there will be no more
	beyond        // it is not the relay's business any more
)

// copy what one side has said to the other one.
func (r *relay) copy(v *visit, from int) int {
	n, err := unix.Read(v.sockets[from], r.buf[:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return more
	case err != nil:
		return beyond
	case n == 0:
		return end
	}
	if from == ofServer {
		v.received()
		if v.smtp {
			_, _ = v.replies.Write(r.buf[:n])
		}
	}
	m, _ := unix.Write(v.sockets[1-from], r.buf[:n]) // the bridge meets the error again
	m = max(m, 0)
	v.bytes[from] += int64(m)
	v.rest[from] = slices.Clone(r.buf[m:n])
	if m < n || n == len(r.buf) {
		return beyond
	}
	return more
}

// end is an orderly end of what one side has to say.
func (r *relay) end(v *visit, from int) {
	if from == ofServer && !v.ended[ofClient] && !(v.smtp && v.replies.bye) {
		r.handOver(v) // why?
		return
	}
	v.ended[from] = true
	v.endedBy(endings[from])
	if v.ended[1-from] {
		r.finish(v)
		return
	}
	_ = r.control(unix.EPOLL_CTL_MOD, v.sockets[from], 0)
	_ = unix.Shutdown(v.sockets[1-from], unix.SHUT_WR)
	v.late = time.AfterFunc(settle, func() { r.hasNotEnded(v) })
}

// finish is the end of a visit as it should be.
func (r *relay) finish(v *visit) {
	r.leave(v)
	for _, fd := range v.sockets {
		unix.Close(fd)
	}
	v.late.Stop()
	r.clients.Go(v.over)
}

// hasNotEnded hands a visit over of which one side goes on when the other one
// has ended.
func (r *relay) hasNotEnded(v *visit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.visits[v.sockets[ofClient]] == v {
		r.handOver(v)
	}
}

// leave takes the visit's sockets out of the set.
func (r *relay) leave(v *visit) {
	for _, fd := range v.sockets {
		if fd < len(r.visits) && r.visits[fd] == v {
			_ = unix.EpollCtl(r.epoll, unix.EPOLL_CTL_DEL, fd, nil)
			r.visits[fd] = nil
			r.n--
		}
	}
}

// handOver gives a visit to a bridge.
func (r *relay) handOver(v *visit) {
	r.leave(v)
	r.clients.Go(func() {
		client, err1 := attach(v.sockets[ofClient])
		server, err2 := attach(v.sockets[ofServer])
		if err := errors.Join(err1, err2); err != nil {
			v.f.Log.Error().Err(err).Msg("cannot go on with a client")
			v.endedBy("cut off")
			for _, c := range []stream{client, server} {
				if c != nil {
					reset(c)
				}
			}
			v.over()
			return
		}
		v.cross(r.ctx, client, server)
	})
}

// dissolve hands all visits over when it is time to stop.
func (r *relay) dissolve() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	for _, v := range r.visits {
		if v != nil {
			r.handOver(v)
		}
	}
	if r.running {
		_ = r.set.SetReadDeadline(time.Unix(1, 0)) // nothing is left for run
	}
}
