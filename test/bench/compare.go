// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/test/kube"
)

const compareHelp = `With --against, bench builds the programs of another commit in a temporary worktree and measures each row with the new
programs and with the old ones in turn, --turns times each. For each row it prints the median of both and their ratio, each
with the least and the most of all turns. The ratio is the median of the ratios of the turns. A row that cannot be compared says why.

Both builds are measured with the clients of this checkout, and with its etcd in the rows E8, L, M and S. In the row E7 each
build is installed with its own manifests. The rows A, B and C measure packages that are linked into bench. They cannot be compared.

A comparison takes 2 x --turns as long as one run, or longer if the old programs are slower, and has no time limit. Old programs
may need time by the square of the count: for lists in pages (L1) and requests that wait (F1). Measure such rows on their own
with a smaller --scale, and the rows S with fewer --children. E7 measures E2 as well; select both, and E2 is measured once.`

// side is one of the two compared builds.
type side struct {
	name string
	tree *tree
	// turns contains the figures of each turn.
	turns []map[*row]figure
}

// comparison is a line of the report.
type comparison struct {
	Row   string  `json:"row"`
	What  string  `json:"what"`
	Unit  string  `json:"unit,omitempty"`
	New   *spread `json:"new,omitempty"`
	Old   *spread `json:"old,omitempty"`
	Ratio *spread `json:"ratio,omitempty"`
	// Problem is the reason why the row could not be compared.
	Problem string `json:"problem,omitempty"`
}

// spread contains the figures of all turns.
type spread struct {
	Median float64   `json:"median"`
	Values []float64 `json:"values"`
}

func newSpread(values []float64) *spread { return &spread{median(values), values} }

func (s *spread) String() string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf("%s (%s to %s)", number(s.Median), number(slices.Min(s.Values)), number(slices.Max(s.Values)))
}

// compare measures the selected rows with the programs of two commits in turn, and writes the report.
func compare(ctx context.Context, o options, selected []measurement, out, progress io.Writer) (err error) {
	r, err := newRunner(ctx, o, measurements, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	r.progress.begin("build the programs of both commits")
	other, remove, err := r.checkOut(o.against)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	sides := []*side{
		{"new", r.tree, make([]map[*row]figure, o.turns)},
		{"old", other, make([]map[*row]figure, o.turns)},
	}
	for _, side := range sides {
		if _, err := side.tree.build(); err != nil {
			return fmt.Errorf("%s: %w", side.name, err)
		}
		for turn := range side.turns {
			side.turns[turn] = map[*row]figure{}
		}
	}

	var comparisons []comparison
	var failed []error
	for _, m := range selected {
		if ctx.Err() != nil {
			failed = append(failed, errors.New("interrupted"))
			break
		}
		problem := "not compared: it measures packages that are linked into bench"
		if !m.linked {
			problem = ""
			if err := r.takeTurns(m, sides); err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", m.name, err))
				first, _, _ := strings.Cut(err.Error(), "\n")
				problem = "not compared: " + first
			}
		}
		for _, c := range compareRows(m, sides, problem) {
			r.progress.print(strings.Join(c.cells(), "  "))
			comparisons = append(comparisons, c)
		}
	}
	r.progress.done()
	if o.scale < 1 {
		fmt.Fprintf(progress, "The counts of all rows but S are multiplied by %v.\n", o.scale)
	}
	return errors.Join(append(failed, writeReport(comparisons, comparisonHeader, o.output, out))...)
}

// checkOut checks out another commit. It also returns a function that removes the checkout.
func (r *runner) checkOut(ref string) (*tree, func() error, error) {
	root := filepath.Join(r.dir, "old")
	git := func(args ...string) error {
		cmd := exec.Command("git", append([]string{"-C", kube.Root(), "worktree"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", cmd, err, out)
		}
		return nil
	}
	if err := git("add", "--detach", root, ref); err != nil {
		return nil, nil, err
	}
	return newTree(r.ctx, root, filepath.Join(r.dir, "old-programs")), func() error { return git("remove", "--force", root) }, nil
}

// takeTurns measures with each side in turn, beginning with the other one each time. It stops if a measurement
// fails.
func (r *runner) takeTurns(m measurement, sides []*side) error {
	for turn := range r.turns {
		for n := range sides {
			side := sides[(turn+n)%len(sides)]
			r.tree, r.figures = side.tree, side.turns[turn]
			if r.isMeasured(m) {
				continue
			}
			named := m
			named.name = fmt.Sprintf("%s, %s, turn %d of %d", m.name, side.name, turn+1, r.turns)
			if err := r.measure(named); err != nil {
				return fmt.Errorf("%s programs: %w", side.name, err)
			}
		}
	}
	return nil
}

// isMeasured reports whether another measurement has already needed these figures.
func (r *runner) isMeasured(m measurement) bool {
	return !slices.ContainsFunc(m.rows, func(row *row) bool {
		_, ok := r.figures[row]
		return !ok
	})
}

// compareRows returns the lines of a measurement. If there is a problem, it returns a line with the problem for
// each name of its rows.
func compareRows(m measurement, sides []*side, problem string) []comparison {
	var lines []comparison
	if problem != "" {
		for _, name := range m.names() {
			lines = append(lines, comparison{Row: name, What: m.name, Problem: problem})
		}
		return lines
	}
	for _, row := range m.rows {
		values := make([][]float64, len(sides))
		for n, side := range sides {
			for _, figures := range side.turns {
				values[n] = append(values[n], figures[row].value)
			}
		}
		line := comparison{Row: row.name, What: row.what, Unit: row.unit, New: newSpread(values[0]), Old: newSpread(values[1])}
		if !slices.Contains(values[1], 0) {
			line.Ratio = newSpread(ratios(values[0], values[1]))
		}
		lines = append(lines, line)
	}
	return lines
}

var comparisonHeader = []string{"row", "what", "new", "old", "unit", "new/old"}

// cells returns the cells of the line in a table.
func (c comparison) cells() []string {
	if c.Problem != "" {
		return []string{c.Row, c.What, c.Problem}
	}
	return []string{c.Row, c.What, c.New.String(), c.Old.String(), c.Unit, c.Ratio.String()}
}
