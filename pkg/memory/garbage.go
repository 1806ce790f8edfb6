// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package memory

// step is by how much the percentage has to change to be worth stopping the world for, in percent of it.
const step = 10

// garbage says how much garbage there may be.
type garbage struct {
	room uint64
	// least is the percentage in a heap without end, percent the one that is set.
	least, percent int
	set            func(percent int)
}

// tune sets the percentage for so many bytes in use.
func (g *garbage) tune(inUse uint64) {
	percent := g.least + int(g.room*100/max(inUse, 1<<20))
	if difference := percent - g.percent; difference*100 > g.percent*step || -difference*100 > g.percent*step {
		g.percent = percent
		g.set(percent)
	}
}

// inUse returns how many bytes the last collection has found in use.
func inUse() uint64 {
	return read("/gc/heap/live:bytes")
}
