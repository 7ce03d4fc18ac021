package main

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"

	"minimail/forward"
)

// inherited are the sockets that systemd, or systemd-socket-activate(1), has
// bound for us (sd_listen_fds(3)), not yet taken by a forward.
type inherited []*os.File

func newInherited() inherited { return activation.Files(true) }

// take returns listeners for the sockets that are f's: those at its port, or
// named after it (FileDescriptorName=25 in a unit). There may be none.
func (in *inherited) take(f forwardSpec) ([]net.Listener, error) {
	var ls []net.Listener
	var rest inherited
	for _, file := range *in {
		l, err := net.FileListener(file)
		if err != nil {
			forward.Close(ls)
			return nil, fmt.Errorf("the socket %q that the service manager passed is not one to listen on: %w", file.Name(), err)
		}
		tcp, ok := l.Addr().(*net.TCPAddr)
		if ok && tcp.Port == f.port || file.Name() == strconv.Itoa(f.port) {
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

// left is an error if a socket was passed that no forward is for: clients of it
// would wait for ever.
func (in inherited) left() error {
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
