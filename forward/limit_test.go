package forward

import "testing"

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
	was, err := RaiseFileLimit()
	restore()
	if err != nil || was < FilesFor(1) {
		t.Errorf("%d, %v", was, err)
	}
}
