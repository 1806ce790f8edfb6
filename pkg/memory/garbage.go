// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package memory

// step is by how much the percentage has to change to be worth stopping the world for, in percent of it.
const step = 10

// least is how much garbage there may be in any case, in percent of what is in use. With less, most of the time would be
// spent on collecting it.
const least = 50

// garbage says how much garbage there may be.
type garbage struct {
	// room is how many bytes there may be, and so many percent of what is in use.
	room, percent uint64
	// limit is how many bytes there may be at most with what is in use; 0 is any number.
	limit uint64
	// now is the percentage that is set.
	now int
	set func(percent int)
}

// tune sets the percentage for so many bytes in use.
func (g *garbage) tune(inUse uint64) {
	inUse = max(inUse, 1<<20)
	most := g.room + inUse*g.percent/100
	if g.limit > 0 {
		most = min(most, max(g.limit, inUse)-inUse)
	}
	percent := int(max(most, inUse*least/100) * 100 / inUse)
	if difference := percent - g.now; difference*100 > g.now*step || -difference*100 > g.now*step {
		g.now = percent
		g.set(percent)
	}
}

// inUse returns how many bytes the last collection has found in use.
func inUse() uint64 {
	return read("/gc/heap/live:bytes")
}
