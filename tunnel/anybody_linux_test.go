package tunnel

import "testing"

func TestAUserNamespaceHasAPlaceForAllOrNot(t *testing.T) {
	for table, want := range map[string]bool{
		"         0          0 4294967295\n":            true,
		"0 0 1000\n1000 5000 1\n1001 1001 4294966294\n": true,
		"0 100000 65536\n":                              false,
		"1000 1000 1\n":                                 false,
		"":                                              false,
		"a b c\n0 0\n":                                  false,
	} {
		if got := hasPlaceForAll(table); got != want {
			t.Errorf("%q: %v", table, got)
		}
	}
}
