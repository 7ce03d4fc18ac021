package peer

import (
	"net"
	"path/filepath"
	"testing"
)

// BenchmarkLeads is what each connection costs once the near end is known.
func BenchmarkLeads(b *testing.B) {
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(b.TempDir(), "near")
		}
		l, err := net.Listen(network, address)
		if err != nil {
			b.Fatal(err)
		}
		go greetAll(l)
		address = l.Addr().String()
		launch := this()
		if err := launch.listens(network, address); err != nil {
			b.Fatal(err)
		}
		c, err := net.Dial(network, address)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		b.Run(network, func(b *testing.B) {
			for b.Loop() {
				if err := launch.leads(b.Context(), c, address); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
