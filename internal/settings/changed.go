package settings

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Changed are all options that somebody has set, with where.
func (s Settings) Changed() (changed []string) {
	for _, o := range options() {
		name := o.name()
		_, set := s.call.origins[name]
		switch source := s.call.where(o); {
		case name == "json" || name == "nagios" || name == "settings" || !set && !s.call.given[name]:
		case s.call.given[name] && !o.takesValue():
			changed = append(changed, source)
		default:
			value := strings.Join(s.call.values(o), " ")
			changed = append(changed, strings.Replace(source, dashed(name), dashed(name)+" "+value, 1))
		}
	}
	return changed
}

// Print writes what is in force, a setting a line, for scripts: NAME=value, the
// value as it is. A repeatable option has a line for each of its values. Of
// settings that were asked for by name it is the values alone.
func (s Settings) Print(w io.Writer) error {
	for _, o := range options() {
		if len(o.env) == 0 {
			continue
		}
		name, front := o.env[0], o.env[0]+"="
		if len(s.Names) > 0 {
			if !slices.ContainsFunc(o.env, func(n string) bool { return slices.Contains(s.Names, n) }) {
				continue
			}
			front = ""
		}
		for _, v := range s.call.values(o) {
			if _, err := fmt.Fprintf(w, "%s%s\n", front, v); err != nil {
				return fmt.Errorf("cannot print %s: %w", name, err)
			}
		}
	}
	return nil
}
