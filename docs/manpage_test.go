package docs_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"minimail/internal/testbed"
)

// An option is what the help says of one.
type option struct {
	names []string // with their dashes, the long one last
	value string   // the default, or ""
}

// inHelp are the options of the program's help, and its words.
func inHelp(t *testing.T) (options []option, words []string) {
	t.Helper()
	help := testbed.Run(t, testbed.Program, "--help")
	for _, m := range regexp.MustCompile(`(?m)(?:^ +|; )(?:(-\w), )?(--[a-z-]+)(?: +([A-Z][A-Z=]*))?(.*)$`).FindAllStringSubmatch(help, -1) {
		o := option{names: []string{m[2]}}
		if m[1] != "" {
			o.names = []string{m[1], m[2]}
		}
		if value := regexp.MustCompile(`\((\S+)\)$`).FindStringSubmatch(m[4]); m[3] != "" && value != nil {
			o.value = value[1]
		}
		if strings.Contains(m[4], "--version") { // in the same line
			options = append(options, option{names: []string{"-V", "--version"}})
		}
		options = append(options, o)
	}
	for _, m := range regexp.MustCompile(`the default of (--\w+) is (\S+)\)`).FindAllStringSubmatch(help, -1) {
		for i := range options {
			if slices.Contains(options[i].names, m[1]) {
				options[i].value = m[2]
			}
		}
	}
	usage, _, _ := strings.Cut(help, "\n\n")
	for _, m := range regexp.MustCompile(`(?m)^  (\w+)  `).FindAllStringSubmatch(usage, -1) {
		words = append(words, m[1])
	}
	return options, words
}

// optionNames are all options, with their dashes.
func optionNames(t *testing.T) []string {
	t.Helper()
	var all []string
	options, _ := inHelp(t)
	for _, o := range options {
		all = append(all, o.names...)
	}
	slices.Sort(all)
	return all
}

// setting is an option's name in the settings file.
func (o option) setting() string {
	long := strings.TrimPrefix(o.names[len(o.names)-1], "--")
	return "MINIMAIL_" + strings.ToUpper(strings.ReplaceAll(long, "-", "_"))
}

// knownSettings are those that the program takes in its environment: it is asked
// about the name of each option.
func knownSettings(t *testing.T) []string {
	t.Helper()
	all := []string{"SUDO_USER"}
	options, _ := inHelp(t)
	for _, o := range options {
		if name := o.setting(); understands(t, name+"=\n") == "" {
			all = append(all, name)
		}
	}
	return all
}

// understands has the program read a settings file, and returns its complaint.
func understands(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "settings")
	testbed.Write(t, file, text)
	out, err := exec.Command(testbed.Program, "check", "--settings", file, "--host=").CombinedOutput()
	if err == nil || strings.HasPrefix(string(out), "minimail: no host to log in to\n") {
		return ""
	}
	return string(out)
}

// differ reports what is only in one of two lists.
func differ(t *testing.T, what string, program, page []string) {
	t.Helper()
	for _, p := range program {
		if !slices.Contains(page, p) {
			t.Errorf("%s has no %s", what, p)
		}
	}
	for _, p := range page {
		if !slices.Contains(program, p) {
			t.Errorf("%s has %s, and the program has not", what, p)
		}
	}
}

// TestTheManPageHasEveryOptionSettingAndCommand, and no others.
func TestTheManPageHasEveryOptionSettingAndCommand(t *testing.T) {
	page := testbed.Read(t, "docs/minimail.8")
	var options []string
	for _, item := range regexp.MustCompile(`(?m)^\.It (Fl .*)$`).FindAllStringSubmatch(page, -1) {
		head, _, _ := strings.Cut(strings.ReplaceAll(item[1], "Fl ", ""), " Ar ")
		head, _, _ = strings.Cut(head, " Pq ")
		for _, name := range strings.Split(head, " , ") {
			options = append(options, "-"+strings.TrimSpace(name))
		}
	}
	differ(t, "the man page", optionNames(t), options)
	differ(t, "the man page", knownSettings(t), testbed.Found(`\b(MINIMAIL_[A-Z_]+|SUDO_USER)\b`, page))

	all, words := inHelp(t)
	differ(t, "the man page", words, testbed.Found(`(?m)^\.It Cm (\w+)$`, page))
	if want := ".Op Cm " + strings.Join(words, " | ") + "\n"; !strings.Contains(page, want) {
		t.Errorf("the synopsis is not %q", want)
	}
	defaults := 0
	for _, o := range all {
		if o.value == "" {
			continue
		}
		defaults++
		long := o.names[len(o.names)-1]
		item := regexp.MustCompile(`(?ms)^\.It (?:Fl \w , |Fl )` + long[1:] + ` .*?(?:^\.It|^\.El)`).FindString(page)
		if !strings.Contains(item, "The default is\n.Dv "+o.value) {
			t.Errorf("the default of %s, %s, is not in %q", long, o.value, item)
		}
	}
	if defaults < 8 {
		t.Errorf("the help has only %d defaults", defaults)
	}
}

// TestTheManPageIsInOrder has mandoc look at it.
func TestTheManPageIsInOrder(t *testing.T) {
	testbed.NeedProgram(t, "mandoc")
	out, _ := exec.Command("mandoc", "-T", "lint", "docs/minimail.8").Output()
	for _, l := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		// That other pages are installed here is not what is asked.
		if l != "" && !strings.Contains(l, "referenced manual not found") {
			t.Error(l)
		}
	}
}

// TestTheSettingsFileShowsEverySettingWithItsDefault, commented out. Only the
// file's own name cannot stand in it.
func TestTheSettingsFileShowsEverySettingWithItsDefault(t *testing.T) {
	file := testbed.Read(t, "scripts/minimail.default")
	settings := slices.DeleteFunc(knownSettings(t), func(n string) bool { return n == "MINIMAIL_SETTINGS" })
	differ(t, "the settings file", settings, testbed.Found(`(?m)^#([A-Z_]+)=`, file))
	if active := testbed.Found(`(?m)^([^#\n].*)$`, file); len(active) > 0 {
		t.Errorf("not comments: %q", active)
	}
	options, _ := inHelp(t)
	for _, o := range options {
		if want := "\n#" + o.setting() + "=" + o.value + "\n"; o.value != "" && o.setting() != "MINIMAIL_SETTINGS" && !strings.Contains(file, want) {
			t.Errorf("not in the settings file: %s", want)
		}
	}
	// With every # taken away it is one that the program and a shell can read.
	all := regexp.MustCompile(`(?m)^#([A-Z_]+=)`).ReplaceAllString(file, "$1")
	if complaint := understands(t, all); complaint != "" {
		t.Error(complaint)
	}
	cmd := exec.Command("sh", "-eu")
	cmd.Stdin = strings.NewReader(all)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("sh: %v\n%s", err, out)
	}
}

// TestShellsCompleteEveryOptionAndCommand asks bash, and reads what zsh and fish
// would; completions_linux_test.go asks these.
func TestShellsCompleteEveryOptionAndCommand(t *testing.T) {
	_, words := inHelp(t)
	bash := func(word string) []string {
		return strings.Fields(testbed.Run(t, "bash", "-c",
			`. scripts/completions/minimail.bash; COMP_WORDS=(minimail "$1") COMP_CWORD=1; _minimail; echo "${COMPREPLY[@]}"`, "bash", word))
	}
	differ(t, "bash", optionNames(t), bash("-"))
	differ(t, "bash", words, bash(""))

	zsh := testbed.Read(t, "scripts/completions/minimail.zsh")
	specs := regexp.MustCompile(`(?m)^\t'[^-]*(-.*?)\[`).FindAllStringSubmatch(strings.ReplaceAll(strings.ReplaceAll(zsh, "'(- :)'", "'"), "'*", "'"), -1)
	var offered []string
	for _, spec := range specs {
		offered = append(offered, testbed.Found(`(--?[\w-]+)`, spec[1])...)
	}
	slices.Sort(offered)
	differ(t, "zsh", optionNames(t), slices.Compact(offered))
	differ(t, "zsh", words, testbed.Found(`[( ](\w+)\\:"`, zsh))
	fish := testbed.Read(t, "scripts/completions/minimail.fish")
	var options []string
	for _, o := range testbed.Found(`(?: -[sl] )([\w-]+)`, fish) {
		dashes := "--"
		if len(o) == 1 {
			dashes = "-"
		}
		options = append(options, dashes+o)
	}
	differ(t, "fish", optionNames(t), options)
	differ(t, "fish", words, testbed.Found(`from \$words" -a (\w+)`, fish))
}
