package forward

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSoManyClientsAreServedAsThereAreFilesFor(t *testing.T) {
	for _, c := range []struct {
		clients        int
		limit          uint64
		served, beside int
	}{
		{256, 1 << 20, 256, maxRoom},
		{256, FilesFor(256), 256, 1},
		{256, FilesFor(256) + 10, 256, 10},
		{256, FilesFor(256) - 1, 255, filesPerClient - 1},
		{256, FilesFor(100), 100, 1},
		{256, FilesFor(1) - 1, 1, 1},
		{256, 3, 1, 1},
	} {
		served := Affordable(c.clients, c.limit)
		if beside := RoomFor(served, c.limit); served != c.served || beside != c.beside {
			t.Errorf("%d clients, %d files: %d served and %d beside, want %d and %d", c.clients, c.limit, served, beside, c.served, c.beside)
		}
	}
}

func TestTheLimitOfFilesIsRaisedAsFarAsWeMay(t *testing.T) {
	restore := lowLimit(t)
	raised, err := RaiseFileLimit()
	var is unix.Rlimit
	err = errors.Join(err, unix.Getrlimit(unix.RLIMIT_NOFILE, &is))
	restore()
	if err != nil || raised < FilesFor(1) || raised != uint64(is.Cur) || is.Cur != is.Max {
		t.Errorf("%d, %v; %+v", raised, err, is)
	}
}
