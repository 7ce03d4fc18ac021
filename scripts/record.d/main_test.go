package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// shown are the lines of a picture, read as XML; it has to be well-formed.
func shown(t *testing.T, svg string) (lines []string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	in := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatalf("the picture is no XML: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "text" {
				in, lines = true, append(lines, "")
			}
		case xml.EndElement:
			in = in && token.Name.Local != "text"
		case xml.CharData:
			if in {
				lines[len(lines)-1] += string(token)
			}
		}
	}
}

func TestALineHasItsStylesAndTheTimeOfItsFirstByte(t *testing.T) {
	const ms = time.Millisecond
	// Terminals get their bytes as they come, be it in the middle of a
	// sequence or a character.
	got, err := interpret([]chunk{
		{1 * ms, "one\r\n\x1b["},
		{2 * ms, "2m 0.1 s\x1b[0m  \x1b[1mh\xc3"},
		{3 * ms, "\xb6r\r\n"},
		{4 * ms, "too\x1b[m\r\n\r\n\x1b[31mred\x1b[32mgreen"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []line{
		{1 * ms, []span{{"", "one"}}},
		{1 * ms, []span{{"dim", " 0.1 s"}, {"", "  "}, {"bold", "hör"}}},
		{4 * ms, []span{{"bold", "too"}}},
		{4 * ms, nil},
		{4 * ms, []span{{"bad", "red"}, {"good", "green"}}},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestWhatCannotBeDrawnAsATerminalShowsItIsRefused(t *testing.T) {
	for printed, want := range map[string]string{
		"\x1b[2Jcleared\n":                    `line 1: a terminal would not show this as it is: "\x1b[2Jcleared"`,
		"fine\n\x1b[7minverse\n":              `line 2: no style is known for "\x1b[7m"`,
		"one\rover the other\n":               `line 1: a terminal would not show this as it is: "one\rover the other"`,
		"a\ttab\n":                            `line 1: a terminal would not show this as it is: "a\ttab"`,
		"\xff\n":                              `line 1: a terminal would not show this as it is: "\xff"`,
		strings.Repeat("ö", columns) + "!\n":  `line 1 has 81 columns, more than 80: "` + strings.Repeat("ö", columns) + `!"`,
		"\x1b[1m" + strings.Repeat("x", 80):   "",
		"\x1b[1m" + strings.Repeat("x", 81):   `line 1 has 81 columns, more than 80: "` + strings.Repeat("x", 81) + `"`,
		"\x1b]0;a window's title\x07the rest": `line 1: a terminal would not show this as it is: "\x1b]0;a window's title\athe rest"`,
	} {
		_, err := interpret([]chunk{{0, printed}})
		if got := fmt.Sprint(err); got != want && (err != nil || want != "") {
			t.Errorf("%q: %s", printed, got)
		}
	}
}

func TestNoRecordingWithoutAWholeInput(t *testing.T) {
	for _, test := range []struct {
		in   io.Reader
		want string
	}{
		{strings.NewReader(""), "nothing was printed"},
		{iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("one\n"))), "timeout"},
		{strings.NewReader("\x1b[2J"), "line 1: "},
	} {
		var out strings.Builder
		if err := run(test.in, &out); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("error %v, not %q", err, test.want)
		}
		if out.Len() != 0 {
			t.Errorf("a picture of nothing: %q", out.String())
		}
	}
}

func TestTextIsTheSameInThePictureWhateverItsCharacters(t *testing.T) {
	lines := []string{`  <you@localhost> & "them" 'too' ]]> <!-- &amp;`, "", "   |", "ö → 日本"}
	var out strings.Builder
	if err := run(strings.NewReader(strings.Join(lines, "\r\n")+"\r\n"), &out); err != nil {
		t.Fatal(err)
	}
	want := append(append([]string{prompt + command}, lines...), prompt)
	if got := shown(t, out.String()); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// The lines come at 1 s and 2 s, the end at 4 s, and it begins again at 10 s.
func TestLinesComeAtTheirTimesAndThoseOfAFrameAtOnce(t *testing.T) {
	svg := draw([]line{
		{time.Second, []span{{"", "one"}}},
		{time.Second + frame - 1, []span{{"", "with it"}}},
		{2 * time.Second, []span{{"", "two"}}},
	}, 4*time.Second)
	for _, want := range []string{
		".at{animation:10.00s step-end infinite}",
		"@keyframes g0{0%{visibility:hidden}10.00%{visibility:visible}}",
		"@keyframes c0{0%{visibility:hidden}10.00%{visibility:visible}20.00%{visibility:hidden}}",
		"@keyframes g1{0%{visibility:hidden}20.00%{visibility:visible}}",
		"@keyframes g2{0%{visibility:hidden}40.00%{visibility:visible}}",
	} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in\n%s", want, svg)
		}
	}
	group := regexp.MustCompile(`(?s)<g class="at" id="g0">(.*?)</g>`).FindString(svg)
	if got := shown(t, group); !slices.Equal(got, []string{"one", "with it"}) {
		t.Errorf("at once come %q", got)
	}
}

func TestWhoDoesNotWantMotionSeesTheEnd(t *testing.T) {
	svg := draw([]line{{time.Second, []span{{"", "one"}}}}, 2*time.Second)
	motion := regexp.MustCompile(`(?s)@media \(prefers-reduced-motion:no-preference\)\{.*\n\}\n</style>`)
	still := motion.ReplaceAllString(svg, "</style>")
	if still == svg {
		t.Fatal("nothing animates")
	}
	if strings.Contains(still, "animation") {
		t.Error("something animates all the same")
	}
	for hidden := range strings.Lines(still) {
		if strings.Contains(hidden, "hidden") && !strings.HasPrefix(hidden, `<rect class="at cursor"`) {
			t.Errorf("hidden: %s", hidden)
		}
	}
}

const recording = "../../docs/demo.svg"

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestThePictureIsSmallAndNeedsNothingElse(t *testing.T) {
	svg := read(t, recording)
	if len(svg) > 40_000 {
		t.Errorf("it has %d bytes", len(svg))
	}
	for _, bad := range []string{"<script", "href", "url(", "@import", "/tmp", "/home", "/root", "=\"on"} {
		if strings.Contains(svg, bad) {
			t.Errorf("there is %q in it", bad)
		}
	}
	for _, good := range []string{"<title", "<desc", "127.0.0.1:25;", "The mail has arrived, and no ssh is left."} {
		if !strings.Contains(svg, good) {
			t.Errorf("there is no %q in it", good)
		}
	}
}

// changing is what differs from one run of the demo to the next.
var changing = regexp.MustCompile(`^ +[0-9.]+ s|[A-Z][a-z]{2}, [0-9]+ [A-Z][a-z]{2} |[0-9.]+(ms|s)?`)

func TestThePictureShowsWhatTheDemoPrintsNow(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can record: run the tests as root as well")
	}
	now := filepath.Join(t.TempDir(), "now.svg")
	cmd := exec.Command("../record", "-o", now)
	cmd.Env = append(os.Environ(), "SUDO_USER=daemon", "NO_COLOR=1") // must not matter
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("scripts/record: %v\n%s", err, out)
	}
	same := func(file string) string {
		lines := shown(t, read(t, file))
		for i, l := range lines {
			lines[i] = changing.ReplaceAllString(l, "#")
		}
		slices.Sort(lines) // what happens at once has no order
		return strings.Join(lines, "\n")
	}
	if was, is := same(recording), same(now); was != is {
		t.Errorf("run scripts/record, for docs/demo.svg shows\n%s\nbut scripts/demo now prints\n%s", was, is)
	}
}
