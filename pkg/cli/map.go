// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/spf13/cobra"
)

const (
	// mapColumns is the number of cells in a line of a map, as an exponent of two.
	mapColumns = 6
	// mapCells is the number of cells of a map, as an exponent of two.
	mapCells = 10
)

func (s *session) newMapCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "map NAME",
		Short: "Draw what is used, cooling, reserved and free of a Prefix",
		Long: fmt.Sprintf("Draw a Prefix as up to %d cells of equal size, %d in a line, by how much of each is used. On a terminal, the "+
			"cells are blocks in colors, otherwise characters.", 1<<mapCells, 1<<mapColumns),
		Example: "  kubectl ipam map root",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.checkOutput(); err != nil {
				return err
			}
			return s.watched(cmd.Context(), func(ctx context.Context) error { return s.drawMap(ctx, args[0]) })
		},
		ValidArgsFunction: s.completePrefixes(1),
	}
	s.addOutputFlag(cmd)
	s.addWatchFlag(cmd)
	return cmd
}

// level is how much of a cell is used.
type level struct {
	// most is the largest part that belongs to the level.
	most        float64
	plain, fine string
	color       color
	words       string
}

// coolingCell stands for a cell of which a part cools down, and nothing is used.
const coolingCell = -2

// levels are sorted by how much is used.
var levels = []level{
	{coolingCell, "c", "≈", cyan, "cooling"},
	{math.Nextafter(0, -1), "r", "▚", magenta, "reserved"},
	{0, ".", "·", gray, "free"},
	{0.5, "-", "░", green, "up to half"},
	{math.Nextafter(1, 0), "+", "▒", yellow, "more than half"},
	{math.Inf(1), "#", "█", blue, "full"},
}

// levelOf returns the level of a cell of which a part is used.
func levelOf(used float64) level {
	return levels[slices.IndexFunc(levels, func(l level) bool { return used <= l.most })]
}

// mapItem is a line of a map in JSON and YAML.
type mapItem struct {
	// First is the first address of the line.
	First string `json:"first"`
	// Used is how much of each cell is used, from 0 to 1. If nothing of it is used, -2 means that a part of it cools down,
	// and another negative number is how much of it is reserved.
	Used []float64 `json:"used"`
}

// drawMap draws a Prefix.
func (s *session) drawMap(ctx context.Context, name string) error {
	_, p, err := s.get(ctx, name)
	if err != nil {
		return err
	}
	prefix, ok := heldBy(p)
	if !ok {
		return exitf(ExitConflict, "%s is not allocated yet", name)
	}
	pool, _, err := s.poolOf(ctx, p, prefix)
	if err != nil {
		return err
	}
	kept, err := s.coolingIn(ctx, p)
	if err != nil {
		return err
	}
	cellBits := min(prefix.Bits()+mapCells, prefix.Addr().BitLen())
	cell := netip.PrefixFrom(prefix.Addr(), cellBits)
	var keeps []netip.Prefix
	cold := map[netip.Prefix]bool{}
	for _, c := range kept {
		keeps = append(keeps, c.prefix)
		cold[c.prefix] = true
	}
	used := cells(prefix, cellBits, func(yield func(netip.Prefix) bool) {
		for held := range pool.All() {
			if !cold[held] && !yield(held) {
				return
			}
		}
	})
	// A part of a cell that cools down or is reserved shows only where nothing of the cell is used.
	for i, part := range cells(prefix, cellBits, slices.Values(pool.Reserved().In(prefix))) {
		if part > 0 && used[i] == 0 {
			used[i] = -part
		}
	}
	for i, part := range cells(prefix, cellBits, slices.Values(keeps)) {
		if part > 0 && used[i] <= 0 {
			used[i] = coolingCell
		}
	}
	r := result{kind: "PrefixMap", fields: map[string]any{"namespace": p.Namespace, "name": p.Name, "prefix": prefix.String(), "cellLength": cellBits}}
	r.before = []string{fmt.Sprintf("%s %s: %d prefixes, %s of %s addresses are free. A cell is a /%d, %s addresses.", name, prefix, pool.Len(),
		pool.FreeAddresses(), pool.TotalAddresses(), cellBits, sizeOf(cell))}
	var lines []mapItem
	first := prefix.Addr()
	for part := range slices.Chunk(used, 1<<mapColumns) {
		lines = append(lines, mapItem{first.String(), part})
		for range part {
			first = cidr.Last(netip.PrefixFrom(first, cellBits)).Next()
		}
	}
	if !s.isTable() {
		for _, line := range lines {
			r.rows = append(r.rows, row{item: line})
		}
		return s.print(r)
	}
	s.printLines(r.before)
	fmt.Fprintln(s.Out)
	s.printMap(lines)
	return nil
}

// printMap prints the lines of a map and their legend.
func (s *session) printMap(lines []mapItem) {
	colors := s.AllowsColor(s.Out)
	draw := func(l level) string {
		if colors {
			return l.color.paint(l.fine)
		}
		return l.plain
	}
	width := 0
	for _, line := range lines {
		width = max(width, len(line.First))
	}
	for _, line := range lines {
		var b strings.Builder
		for _, used := range line.Used {
			b.WriteString(draw(levelOf(used)))
		}
		fmt.Fprintf(s.Out, "%-*s  %s\n", width, line.First, b.String())
	}
	var legend []string
	for _, l := range levels {
		legend = append(legend, draw(l)+" "+l.words)
	}
	fmt.Fprintf(s.Out, "\n%s\n", strings.Join(legend, "   "))
}

// cells divides a prefix into cells of a length, and returns how much of each is used, from 0 to 1.
func cells(prefix netip.Prefix, cellBits int, held func(yield func(netip.Prefix) bool)) []float64 {
	used := make([]float64, 1<<(cellBits-prefix.Bits()))
	for h := range held {
		first := cellOf(prefix, cellBits, h.Addr())
		if h.Bits() >= cellBits {
			used[first] += math.Ldexp(1, cellBits-h.Bits())
			continue
		}
		for i := range 1 << (cellBits - h.Bits()) {
			used[first+i] = 1
		}
	}
	return used
}

// cellOf returns the number of the cell in which an address lies.
func cellOf(prefix netip.Prefix, cellBits int, addr netip.Addr) int {
	bytes := addr.AsSlice()
	cell := 0
	for bit := prefix.Bits(); bit < cellBits; bit++ {
		cell = cell<<1 | int(bytes[bit/8]>>(7-bit%8)&1)
	}
	return cell
}
