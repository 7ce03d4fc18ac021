package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// A series is what a side needed, run by run: seconds, bytes or bytes per second.
type series []float64

// quantile interpolates between the nearest values.
func (s series) quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

func (s series) median() float64 { return s.quantile(0.5) }

// A unit is how numbers are written.
type unit int

const (
	times unit = iota
	speed
	size
	count
)

func (u unit) String() string {
	return [...]string{"ms", "GB/s", "KiB", ""}[u]
}

func (u unit) format(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	switch u {
	case times:
		return digits(v*1e3) + " ms"
	case speed:
		return fmt.Sprintf("%.2f GB/s", v/1e9)
	case size:
		if v >= 1e6 {
			return fmt.Sprintf("%.1f MB", v/1e6)
		}
		return fmt.Sprintf("%.1f KiB", v/(1<<10))
	}
	return fmt.Sprintf("%.3g", v)
}

// digits writes three of them.
func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// withSpread is the median and, in brackets, the middle half: from the first
// quartile to the third.
func (u unit) withSpread(s series) string {
	if len(s) < 2 {
		return u.format(s.median())
	}
	low, _, _ := strings.Cut(u.format(s.quantile(0.25)), " ")
	high, _, _ := strings.Cut(u.format(s.quantile(0.75)), " ")
	return fmt.Sprintf("%s (%s–%s)", u.format(s.median()), low, high)
}

// A side is one of the programs that are compared in a row.
type side struct {
	name string
	got  series
}

// A row is one line of the table.
type row struct {
	section string
	what    string
	in      unit
	atLeast bool // more is better
	ours    series
	theirs  []side
	before  series // of another minimail, if there is one to compare with
	// The target is a bound of our median, as a ratio to that of the best of
	// theirs, or an absolute one if there are none or isAbsolute is set.
	target     float64
	isAbsolute bool
	failed     string // why it is not met whatever the numbers say
	note       string
	few        bool   // it was not measured often enough for a no
	closing    func() // fills in the last two when it has been measured
}

// best is the best of the others, or nil.
func (r *row) best() *side {
	if len(r.theirs) == 0 {
		return nil
	}
	better := slices.MinFunc[[]side]
	if r.atLeast {
		better = slices.MaxFunc[[]side]
	}
	s := better(r.theirs, func(a, b side) int { return cmp.Compare(a.got.median(), b.got.median()) })
	return &s
}

// ratio is that of our median to the best of theirs, or NaN.
func (r *row) ratio() float64 { return r.ours.median() / r.theirMedian() }

// against is what the target is compared with, where our side needed ours and
// the best of theirs needed theirs: as it is printed.
func (r *row) against(ours, theirs float64) float64 {
	if r.isAbsolute {
		return ours
	}
	return math.Round(100*ours/theirs) / 100
}

// meets reports whether such numbers meet the target; NaN does not.
func (r *row) meets(ours, theirs float64) bool {
	if r.isAbsolute && r.in.format(ours) == r.in.format(r.target) {
		return true
	}
	if r.atLeast {
		return r.against(ours, theirs) >= r.target
	}
	return r.against(ours, theirs) <= r.target
}

func (r *row) met() bool { return r.failed == "" && r.meets(r.ours.median(), r.theirMedian()) }

// mayMeet reports whether it is within the spreads that the target is met.
func (r *row) mayMeet() bool {
	low, high := 0.25, 0.75
	if r.atLeast {
		low, high = high, low
	}
	best := r.best()
	return r.failed == "" && best != nil && r.meets(r.ours.quantile(low), best.got.quantile(high))
}

// theirMedian is that of the best of the others, or NaN.
func (r *row) theirMedian() float64 {
	if b := r.best(); b != nil {
		return b.got.median()
	}
	return math.NaN()
}

// comparable is false where the other side is missing.
func (r *row) comparable() bool { return r.isAbsolute || !math.IsNaN(r.ratio()) }

func (r *row) verdict() string {
	switch {
	case r.failed != "":
		return "no: " + r.failed
	case !r.comparable():
		return "not measured"
	case r.met():
		return "yes"
	case r.few && r.mayMeet():
		return "within the spread"
	}
	return "no"
}

func (r *row) bound() string {
	sign := "≤"
	if r.atLeast {
		sign = "≥"
	}
	if r.isAbsolute {
		return sign + " " + r.in.format(r.target)
	}
	return fmt.Sprintf("%s %.2f", sign, r.target)
}
