package tunnel

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestThePagesSayTheTimesThatHold(t *testing.T) {
	for page, promises := range map[string][]string{
		"FAULTS.md": {fmt.Sprintf("killing ssh; KILL after %s", inSeconds(stopTimeout))},
		"DESIGN.md": {
			fmt.Sprintf("KILL after %s", inSeconds(stopTimeout)),
			fmt.Sprintf("A login that goes on is alive, for %s.", inSeconds(loginLimit)),
			fmt.Sprintf("Two launches are at least %s", inSeconds(betweenLaunches)),
			fmt.Sprintf("nothing has come for %s (%s if others are at work)", inSeconds(deadAlone), inSeconds(deadShared)),
			fmt.Sprintf("ssh's question has had no answer for %s", inSeconds(probeTakes)),
			fmt.Sprintf("a client it is %s", inSeconds(deadUsed)),
		},
	} {
		text, err := os.ReadFile("../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Join(strings.Fields(string(text)), " ")
		for _, p := range promises {
			if !strings.Contains(words, p) {
				t.Errorf("%s does not say %q", page, p)
			}
		}
	}
}
