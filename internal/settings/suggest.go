package settings

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/xrash/smetrics"

	"minimail/internal/fail"
)

// instead is what somebody may have meant with a word that is none.
func instead(w string, words []Word) string {
	var known []string
	for _, k := range words {
		known = append(known, k.Name)
	}
	switch {
	case slices.ContainsFunc(allOptions(), func(o option) bool { return o.name() == w }):
		return didYouMean(dashed(w), "")
	case strings.HasPrefix(w, "MINIMAIL_"):
		return didYouMean(w+" minimail", "")
	case strings.ContainsAny(w, "@.") && !strings.ContainsAny(w, "=:") && !strings.HasPrefix(w, "-"):
		return "minimail --host " + fail.Quote(w) + " # if that is the host to log in to"
	}
	return didYouMean(nearest(w, known), "minimail --help lists the commands")
}

// unknownOption is about arg, which begins with one - or two, as it was typed.
func unknownOption(arg, name string) error {
	typed, _, _ := strings.Cut(arg, "=")
	err := fmt.Errorf("unknown option %q", typed)
	if apart := oneByOne(name); apart != "" && typed == "-"+name {
		return fail.Hint(err, "%s # each on its own", apart)
	}
	if port, is := strings.CutPrefix(typed, "-p"); is && digits.MatchString(port) {
		return fail.Hint(err, sshPort, port)
	}
	var known []string
	for _, o := range allOptions() {
		known = append(known, dashed(o.name()))
	}
	near := cmp.Or(otherNames[name], nearest(dashed(name), known))
	return fail.Hint(err, "%s", didYouMean(near, "minimail --help lists the options"))
}

// sshPort is for whoever takes -p for ssh's.
const sshPort = "--ssh-option Port=%s # or Port in ~/.ssh/config"

// otherNames are what other programs call our options.
var otherNames = map[string]string{"config": "--settings", "port": "--forward", "listen": "--forward", "bind": "--forward", "identity": "--ssh-option",
	"o": "--ssh-option", "F": "--ssh-config"} // ssh's

// oneByOne is -x -y if name is xy and both are options, or "".
func oneByOne(name string) string {
	var all []string
	for _, letter := range strings.Split(name, "") {
		if !slices.ContainsFunc(allOptions(), func(o option) bool { return slices.Contains(o.Names(), letter) }) {
			return ""
		}
		all = append(all, "-"+letter)
	}
	return strings.Join(all, " ")
}

// nearest is the known word that w looks like, or "" if none is near: at most
// two letters differ, and at least half of them are right, or it is the only one
// that begins so. Case does not count.
func nearest(w string, known []string) string {
	bare := func(s string) string {
		return strings.TrimPrefix(strings.TrimPrefix(strings.ToLower(s), "--"), "minimail_")
	}
	near, least := "", 3
	var longer []string
	for _, k := range known {
		if strings.HasPrefix(bare(k), bare(w)) && len(bare(w)) > 2 {
			longer = append(longer, k)
		}
		d := smetrics.WagnerFischer(bare(w), bare(k), 1, 1, 1)
		if d < least && 2*d <= len(bare(w)) {
			near, least = k, d
		}
	}
	if near == "" && len(longer) == 1 {
		return longer[0]
	}
	return near
}

// didYouMean is a suggestion as a hint, or other if there is none.
func didYouMean(suggestion, other string) string {
	if suggestion == "" {
		return other
	}
	return fmt.Sprintf("did you mean %q?", suggestion)
}
