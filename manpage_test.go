package main

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// optionNames are all options, with their dashes.
func optionNames() []string {
	var all []string
	for _, f := range append(flags(), cli.VersionFlag, cli.HelpFlag) {
		for _, name := range f.Names() {
			all = append(all, dashed(name))
		}
	}
	slices.Sort(all)
	return all
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

// found are the texts of the first group of re in s, sorted, each once.
func found(re, s string) []string {
	var all []string
	for _, m := range regexp.MustCompile(re).FindAllStringSubmatch(s, -1) {
		all = append(all, m[1])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestTheManPageHasEveryOptionSettingAndCommand, and no others.
func TestTheManPageHasEveryOptionSettingAndCommand(t *testing.T) {
	page := read(t, "docs/minimail.8")
	var options []string
	for _, item := range regexp.MustCompile(`(?m)^\.It (Fl .*)$`).FindAllStringSubmatch(page, -1) {
		head, _, _ := strings.Cut(strings.ReplaceAll(item[1], "Fl ", ""), " Ar ")
		head, _, _ = strings.Cut(head, " Pq ")
		for _, name := range strings.Split(head, " , ") {
			options = append(options, "-"+strings.TrimSpace(name))
		}
	}
	differ(t, "the man page", optionNames(), options)
	differ(t, "the man page", settingNames(), found(`\b(MINIMAIL_[A-Z_]+|SUDO_USER)\b`, page))

	var words []string
	for _, c := range commands(nil) {
		words = append(words, c.Name)
	}
	differ(t, "the man page", words, found(`(?m)^\.It Cm (\w+)$`, page))
	if want := ".Op Cm " + strings.Join(words, " | ") + "\n"; !strings.Contains(page, want) {
		t.Errorf("the synopsis is not %q", want)
	}
	for _, f := range flags() {
		doc := f.(cli.DocGenerationFlag)
		value := strings.Trim(doc.GetValue(), `"[]`)
		if !doc.TakesValue() || value == "" {
			continue
		}
		item := regexp.MustCompile(`(?ms)^\.It (?:Fl \w , |Fl )-` + f.Names()[0] + ` .*?(?:^\.It|^\.El)`).FindString(page)
		if !strings.Contains(item, "The default is\n.Dv "+value) {
			t.Errorf("the default of --%s, %s, is not in %q", f.Names()[0], value, item)
		}
	}
}

// TestTheManPageIsInOrder has mandoc look at it.
func TestTheManPageIsInOrder(t *testing.T) {
	needProgram(t, "mandoc")
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
	file := read(t, "scripts/minimail.default")
	settings := slices.DeleteFunc(settingNames(), func(n string) bool { return n == "MINIMAIL_SETTINGS" })
	differ(t, "the settings file", settings, found(`(?m)^#([A-Z_]+)=`, file))
	if active := found(`(?m)^([^#\n].*)$`, file); len(active) > 0 {
		t.Errorf("not comments: %q", active)
	}
	for _, f := range flags() {
		doc := f.(cli.DocGenerationFlag)
		if value := strings.Trim(doc.GetValue(), `"[]`); doc.TakesValue() && value != "" && f.Names()[0] != "settings" {
			if want := "\n#" + doc.GetEnvVars()[0] + "=" + value + "\n"; !strings.Contains(file, want) {
				t.Errorf("not in the settings file: %s", want)
			}
		}
	}
	// With every # taken away it is one that the program and a shell can read.
	all := regexp.MustCompile(`(?m)^#([A-Z_]+=)`).ReplaceAllString(file, "$1")
	if _, _, err := parseSettings(strings.NewReader(all), "it"); err != nil {
		t.Error(err)
	}
	cmd := exec.Command("sh", "-eu")
	cmd.Stdin = strings.NewReader(all)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("sh: %v\n%s", err, out)
	}
}

// TestShellsCompleteEveryOptionAndCommand asks bash and fish, and reads what
// zsh would.
func TestShellsCompleteEveryOptionAndCommand(t *testing.T) {
	var words []string
	for _, c := range commands(nil) {
		words = append(words, c.Name)
	}
	bash := func(word string) []string {
		return strings.Fields(command(t, "bash", "-c",
			`. scripts/completions/minimail.bash; COMP_WORDS=(minimail "$1") COMP_CWORD=1; _minimail; echo "${COMPREPLY[@]}"`, "bash", word))
	}
	differ(t, "bash", optionNames(), bash("-"))
	differ(t, "bash", words, bash(""))

	zsh := read(t, "scripts/completions/minimail.zsh")
	specs := regexp.MustCompile(`(?m)^\t'[^-]*(-.*?)\[`).FindAllStringSubmatch(strings.ReplaceAll(strings.ReplaceAll(zsh, "'(- :)'", "'"), "'*", "'"), -1)
	var offered []string
	for _, spec := range specs {
		offered = append(offered, found(`(--?[\w-]+)`, spec[1])...)
	}
	slices.Sort(offered)
	differ(t, "zsh", optionNames(), slices.Compact(offered))
	differ(t, "zsh", words, found(`[( ](\w+)\\:"`, zsh))
	for _, shell := range []string{"zsh", "fish"} {
		if _, err := exec.LookPath(shell); err != nil {
			t.Logf("%s is not here to be asked", shell)
			continue
		}
		command(t, shell, "-n", "scripts/completions/minimail."+shell)
	}

	fish := read(t, "scripts/completions/minimail.fish")
	var options []string
	for _, o := range found(`(?: -[sl] )([\w-]+)`, fish) {
		options = append(options, dashed(o))
	}
	differ(t, "fish", optionNames(), options)
	differ(t, "fish", words, found(`__fish_use_subcommand -a (\w+)`, fish))
}
