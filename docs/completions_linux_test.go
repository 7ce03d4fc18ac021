package docs_test

import (
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// sshHosts has two hosts; the others are patterns.
const sshHosts = "Host inner outer\nHost *.example.com in?er !inside\n"

// completions are what a shell makes of what has been typed, at the Tab key.
var completions = [][2]string{
	{"minimail sta", "minimail sta"}, // start, status
	{"minimail stat", "minimail status "},
	{"minimail --host inner stat", "minimail --host inner status "},
	{"minimail status rest", "minimail status rest"}, // one word only
	{"minimail --host in", "minimail --host inner "},
	{"minimail --host=in", "minimail --host=inner "},
	{"minimail --host=out", "minimail --host=outer "},
	{"minimail --host=!", "minimail --host=!"},
	{"minimail --protocol=sm", "minimail --protocol=smtp "},
	{"minimail --log-format js", "minimail --log-format json "},
}

// atATerminal is for zsh: it runs a shell at a terminal, has it read a line and
// types the others, each with a Tab and a ^X behind it, which prints the line that
// is then there.
const atATerminal = `zmodload zsh/zpty
zpty shell $1
zpty -w shell "$2"
zpty -r shell got '*RE[A]DY*'
for typed in "${@:3}"; do
	zpty -w -n shell "$typed"$'\t\x18'
	zpty -r shell got '*<*>*'
	print -r -- ${${got##*<}%>*}
done
`

// shells are how each is started, and told to complete and to print its line.
var shells = map[string][2]string{
	"bash": {"bash --norc --noprofile -i", `. /minimail.bash; PS1=; dump() { echo "<$READLINE_LINE>"; READLINE_LINE=; }; bind -x '"\C-x": dump'; ` +
		`bind 'set bell-style none'; echo RE''ADY`},
	"zsh": {"zsh -f -i", `PROMPT=; fpath=(/completions $fpath); autoload -Uz compinit; compinit -u -D; ` +
		`dump() { print -r -- "<$BUFFER>"; BUFFER= }; zle -N dump; bindkey '^X' dump; unsetopt beep list_beep; setopt no_always_last_prompt; print RE''ADY`},
}

func TestRealShellsCompleteBehindAnEqualsSignOneWordAndNoPatterns(t *testing.T) {
	t.Parallel()
	files := map[string]string{"/person/.ssh/config": sshHosts, "/completions/_minimail": testbed.Read(t, "scripts/completions/minimail.zsh")}
	for _, name := range []string{"bash", "fish"} {
		files["/minimail."+name] = testbed.Read(t, "scripts/completions/minimail."+name)
	}
	p := newPostOffice(t, "shells")
	p.Run(t, 0, "mkdir", "-p", "/person/.ssh", "/completions")
	for name, text := range files {
		testbed.Write(t, name, text)
	}
	var typed []string
	for _, c := range completions {
		typed = append(typed, c[0])
	}
	for name, s := range shells {
		argv := append([]string{"HOME=/person", "TERM=dumb", "zsh", "-fc", atATerminal, "zsh", s[0], s[1]}, typed...)
		got := strings.Split(p.Run(t, 0, argv...), "\n")
		for i, c := range completions {
			if got := strings.TrimSuffix(got[i], "\r"); got != c[1] {
				t.Errorf("%s: %q becomes %q, want %q", name, c[0], got, c[1])
			}
		}
	}
	for _, c := range completions {
		out := p.Run(t, 0, "HOME=/person", "TERM=dumb", "fish", "-c", `source /minimail.fish; complete -C "$argv"`, c[0])
		got, all := c[0], strings.Fields(strings.Join(testbed.Found(`(?m)^(\S+)`, out), " "))
		if len(all) == 1 {
			got = c[0][:strings.LastIndexByte(c[0], ' ')+1] + all[0] + " "
		}
		if got != c[1] {
			t.Errorf("fish: %q becomes %q, want %q: %q", c[0], got, c[1], out)
		}
	}
}
