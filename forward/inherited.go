package forward

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"
)

// Inherited are the sockets that systemd, or systemd-socket-activate(1), has
// bound for us (sd_listen_fds(3)), not yet taken by a forward.
type Inherited []*os.File

// NewInherited takes the sockets over. Called again, it finds none.
func NewInherited() Inherited { return activation.Files(true) }

// Take returns listeners for the sockets that are f's: those at its port, or
// named after it (FileDescriptorName=25 in a unit). There may be none. The
// caller, or Serve, closes them.
func (in *Inherited) Take(f Spec) ([]net.Listener, error) {
	var ls []net.Listener
	var rest Inherited
	for _, file := range *in {
		l, err := net.FileListener(file)
		if err != nil {
			Close(ls)
			return nil, fmt.Errorf("the socket %q that the service manager passed is not one to listen on: %w", file.Name(), err)
		}
		tcp, ok := l.Addr().(*net.TCPAddr)
		if ok && tcp.Port == f.Port || file.Name() == strconv.Itoa(f.Port) {
			ls = append(ls, l)
			file.Close()
			continue
		}
		l.Close()
		rest = append(rest, file)
	}
	*in = rest
	return ls, nil
}

// Left returns an error if a socket was passed that no forward is for: clients of it
// would wait for ever.
func (in Inherited) Left() error {
	if len(in) == 0 {
		return nil
	}
	name := in[0].Name()
	if l, err := net.FileListener(in[0]); err == nil {
		name = l.Addr().String()
		l.Close()
	}
	return fmt.Errorf("the service manager passed a socket at %s, and no --forward has that PORT", name)
}
