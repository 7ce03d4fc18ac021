//go:build linux

package main

import (
	"slices"
	"strings"
	"time"

	"minimail/tunnel/openssh"
)

// words are how check names a meaning, if not as the table does.
var words = map[openssh.Meaning]string{
	openssh.HostKey:    "host key",
	openssh.Forbidden:  "does not let us forward to there",
	openssh.FarRefused: "as seen from",
}

// judge says what is wrong with what minimail says of the fault; empty: nothing.
func (l *login) judge() string {
	if l.c.server.kind == "tinysshd" && (l.f.want == nil || l.f.far != "" || l.f.cut) {
		l.f.want = at(openssh.Forbidden) // it knows no forwards
	}
	if l.f.want == nil {
		if strings.HasPrefix(l.refusal, "220") && l.check.points == "" {
			return ""
		}
		return "WRONG: no mail: " + strings.TrimSpace(l.refusal+l.check.points)
	}
	v := l.verdict
	switch {
	case !strings.HasPrefix(l.refusal, "421"):
		if l.refusal == "" && strings.Contains(l.log, v.Line) && slices.Contains(l.f.want, openssh.BadSettings) {
			return "" // it does not even start
		}
		return "WRONG: " + strings.TrimSpace(l.refusal)
	case v.Means == "":
		return "unknown: " + l.shown()
	case !slices.Contains(l.f.want, v.Means):
		return "WRONG " + string(v.Means) + ": " + v.Line
	case v.OnTheWay != l.f.onWay && v.Means != openssh.WaySilent && v.Means != openssh.LinkLost: // which nobody knows
		return "WRONG hop: " + v.Line
	case !strings.Contains(l.refusal, v.Line) && v.Means != openssh.WayEnded && v.Means != openssh.NoNearEnd || !strings.Contains(l.refusal, l.f.says):
		return "WRONG 421: " + l.shown()
	case (l.heard.Failure == openssh.Definite) != (l.pause > 45*time.Second):
		return "WRONG pause: " + l.pause.String()
	}
	return l.judgeCheck(v.Means)
}

// judgeCheck is about check's words, and whose host the advice is about.
func (l *login) judgeCheck(m openssh.Meaning) string {
	if l.f.quiet {
		return ""
	}
	named := slices.ContainsFunc(append(slices.Clone(l.f.want), m), func(m openssh.Meaning) bool {
		text, _ := m.Advice(openssh.Case{Quote: func(...string) string { return "" }})
		if w := words[m]; w != "" && !l.f.onWay {
			text = w
		}
		return strings.Contains(l.check.points, text)
	})
	fixes := l.check.fixes
	switch first, _, _ := strings.Cut(l.check.points, "\n"); {
	case !named:
		return "WRONG check: " + first
	case l.f.onWay && m != openssh.WaySilent && m != openssh.LinkLost && (!strings.Contains(l.check.points, "on the way") || strings.Contains(fixes, "-- far") || strings.Contains(fixes, "ssh-keygen -R")):
		return "WRONG hop: " + strings.ReplaceAll(fixes, "\n", " / ")
	}
	return ""
}

// shown is the 421 in short.
func (l *login) shown() string { return strings.TrimSpace(l.refusal) }
