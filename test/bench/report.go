// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	// This registers the output format .svg.
	_ "gonum.org/v1/plot/vg/vgsvg"
)

// result is a line of the report.
type result struct {
	Row    string  `json:"row"`
	What   string  `json:"what"`
	Figure float64 `json:"figure"`
	Unit   string  `json:"unit"`
	Goal   string  `json:"goal,omitempty"`
	// Met is yes, no, or that the figure was not judged. It is empty if there is no goal.
	Met string `json:"met,omitempty"`
	// Values contains the values that the figure is the median of.
	Values []float64 `json:"values,omitempty"`
}

// results returns the results of the measurements.
func (r *runner) results(selected []measurement) []result {
	var results []result
	for _, m := range selected {
		for _, row := range m.rows {
			figure, ok := r.figures[row]
			if !ok {
				continue
			}
			results = append(results, result{row.name, row.what, figure.value, row.unit, row.goal.String(), r.verdict(row, figure.value), figure.of})
		}
	}
	return results
}

// verdict returns whether a goal is met. The goals are for a run of full size.
func (r *runner) verdict(row *row, value float64) string {
	full := r.scale == 1
	if strings.HasPrefix(row.name, "S") {
		full = r.children >= fullChildren
	}
	switch {
	case row.goal.relation == "":
		return ""
	case !full:
		return "not judged"
	case row.goal.isMetBy(value):
		return "yes"
	}
	return "no"
}

// number formats a number with three significant digits, or with all digits before the decimal point.
func number(value float64) string {
	digits := 0
	if size := math.Abs(value); size < 100 && value != math.Trunc(value) {
		digits = 2
		if size >= 10 {
			digits = 1
		}
	}
	text := strconv.FormatFloat(value, 'f', digits, 64)
	whole, rest, _ := strings.Cut(text, ".")
	for n := len(whole) - 3; n > 0; n -= 3 {
		whole = whole[:n] + "," + whole[n:]
	}
	if rest != "" {
		whole += "." + rest
	}
	return whole
}

// cells returns the cells of the line in a table.
func (r result) cells() []string {
	return []string{r.Row, r.What, number(r.Figure), r.Unit, r.Goal, r.Met}
}

var header = []string{"row", "what", "figure", "unit", "goal", "met"}

// line is a line of a report.
type line interface{ cells() []string }

// writeReport prints lines as a table, or as JSON.
func writeReport[L line](lines []L, header []string, output string, out io.Writer) error {
	if output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(lines)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.Join(header, "\t")))
	for _, l := range lines {
		fmt.Fprintln(w, strings.Join(l.cells(), "\t"))
	}
	return w.Flush()
}

// The location of the report in the documentation.
const (
	docsBegin = "<!-- Written by make bench ARGS=--write-docs. -->"
	docsEnd   = "<!-- That was written by make bench. -->"
	docsPlot  = "children.svg"
)

// writeDocs writes the results to docs/performance.md. Rows that were not measured do not change.
func (r *runner) writeDocs(results []result) error {
	docs := filepath.Join(kube.Root(), "docs")
	file := filepath.Join(docs, "performance.md")
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, hasBegin := strings.Cut(string(data), docsBegin)
	old, after, hasEnd := strings.Cut(rest, docsEnd)
	if !hasBegin || !hasEnd {
		return fmt.Errorf("%s has no %q and %q after it", file, docsBegin, docsEnd)
	}
	if len(r.points) > 0 {
		if err := writePlot(filepath.Join(docs, docsPlot), r.points); err != nil {
			return err
		}
	}
	text := r.docsTable(old, results) + "\n"
	if _, err := os.Stat(filepath.Join(docs, docsPlot)); err == nil {
		text += "![Children a second against children that exist](" + docsPlot + ")\n\n"
	}
	for _, m := range r.all {
		text += "- " + strings.Join(m.names(), ", ") + ": " + m.how + "\n"
	}
	return os.WriteFile(file, []byte(before+docsBegin+"\n\n"+text+"\n"+docsEnd+after), 0o644)
}

// docsTable returns a table with the results, and with the other rows of the old table.
func (r *runner) docsTable(old string, results []result) string {
	line := func(cells []string) string { return "| " + strings.Join(cells, " | ") + " |\n" }
	// key returns the beginning of a line, which identifies it.
	key := func(row, what string) string { return fmt.Sprintf("| %s | %s |", row, what) }
	measured := map[string]string{}
	for _, result := range results {
		measured[key(result.Row, result.What)] = line(result.cells())
	}
	table := line(header) + strings.Repeat("|---", len(header)) + "|\n"
	for _, m := range r.all {
		for _, row := range m.rows {
			key := key(row.name, row.what)
			if line, ok := measured[key]; ok {
				table += line
				continue
			}
			for lines := bufio.NewScanner(strings.NewReader(old)); lines.Scan(); {
				if strings.HasPrefix(lines.Text(), key) {
					table += lines.Text() + "\n"
				}
			}
		}
	}
	return table
}

// writePlot draws the rate of children by the number of existing children.
func writePlot(file string, points []point) error {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = "children that exist", "children a second"
	p.Y.Min = 0
	p.X.Tick.Marker, p.Y.Tick.Marker = numberTicks{}, numberTicks{}
	xys := make(plotter.XYs, len(points))
	for i, point := range points {
		xys[i] = plotter.XY{X: point.children, Y: point.rate}
	}
	line, err := plotter.NewLine(xys)
	if err != nil {
		return err
	}
	p.Add(plotter.NewGrid(), line)
	// Leave space above the line.
	p.Y.Max *= 1.1
	return p.Save(20*vg.Centimeter, 9*vg.Centimeter, file)
}

// numberTicks prints numbers in full.
type numberTicks struct{}

// Ticks implements plot.Ticker.
func (numberTicks) Ticks(least, most float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(least, most)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = number(ticks[i].Value)
		}
	}
	return ticks
}
