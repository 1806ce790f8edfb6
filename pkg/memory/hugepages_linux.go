// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"time"
	"unsafe"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

const (
	// growth is by how many bytes the memory has to grow to be looked at again.
	growth = 32 << 20
	// pace is how many bytes are copied with each glance at most. Where the memory of a virtual machine comes from its host only
	// when it is used, a huge page takes some milliseconds, and a server that starts on a large store grows by 100 MiB a second.
	pace = 16 << 20
	// region is how many bits of an address differ within the heap: the runtime takes what follows one address, and only if
	// that is taken tries another one that differs in the bits above.
	region = 40
)

// setting is who gets huge pages: always, madvise or never, the one in brackets.
const setting = "/sys/kernel/mm/transparent_hugepage/enabled"

// hugePages has the heap in huge pages, on a Linux that gives them to who asks (madvise(2), MADV_HUGEPAGE), as most
// distributions have it.
type hugePages struct {
	// seen is how many bytes the runtime had from the system when it was looked at.
	seen uint64
	// asked is for what they were asked for then, by address.
	asked []stretch
	// small is what of that may still be in small ones, since it was used before.
	small []stretch
}

// stretch is memory between two addresses.
type stretch struct{ from, to uintptr }

// tune asks for huge pages for what the heap has grown by, and has some of what is in small ones copied.
func (h *hugePages) tune(total uint64) error {
	if total >= h.seen+growth {
		h.seen = total
		if err := h.ask(); err != nil {
			return err
		}
	}
	h.collapse()
	return nil
}

// ask asks for huge pages for all of the heap.
func (h *hugePages) ask() error {
	self, err := procfs.Self()
	if err != nil {
		return err
	}
	maps, err := self.ProcMaps()
	if err != nil {
		return err
	}
	within := uintptr(unsafe.Pointer(h)) >> region
	var asked []stretch
	var errs []error
	for _, m := range maps {
		anonymous := m.Pathname == "" || strings.HasPrefix(m.Pathname, "[anon: Go: heap")
		if !anonymous || !m.Perms.Write || !m.Perms.Private || m.StartAddr>>region != within {
			continue
		}
		s := stretch{m.StartAddr, m.EndAddr}
		if err := s.madvise(unix.MADV_HUGEPAGE); err != nil {
			errs = append(errs, err)
			continue
		}
		asked = append(asked, s)
		// One that is not new has grown upwards, into the next one where they meet.
		for _, before := range h.asked {
			if before.from <= s.from && s.from < before.to {
				s.from = before.to
			}
		}
		if s.from < s.to {
			h.small = append(h.small, s)
		}
	}
	h.asked = asked
	return errors.Join(errs...)
}

// collapse has some of what is in small pages copied into huge ones (MADV_COLLAPSE, since Linux 6.1). An older kernel does
// that when it finds the time, and where there is no room for huge ones, small ones do.
func (h *hugePages) collapse() {
	for room := uintptr(pace); room > 0 && len(h.small) > 0; {
		s := &h.small[0]
		some := stretch{s.from, min(s.to, s.from+room)}
		_ = some.madvise(unix.MADV_COLLAPSE)
		room -= some.to - some.from
		if s.from = some.to; s.from == s.to {
			h.small = h.small[1:]
		}
	}
}

// madvise is madvise(2).
func (s stretch) madvise(advice uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_MADVISE, s.from, s.to-s.from, advice); errno != 0 {
		return errno
	}
	return nil
}

// adviseHugePages has the heap in huge pages, with a glance at it every so often, until it is stopped, or that fails. Where
// nobody is to have them it does nothing.
func adviseHugePages(every time.Duration) (stop func()) {
	if who, err := os.ReadFile(setting); err == nil && bytes.Contains(who, []byte("[never]")) {
		return func() {}
	}
	h := &hugePages{}
	end := make(chan struct{})
	go func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		// There may be no procfs, or a kernel without huge pages. Nothing is worse for it.
		for h.tune(read("/memory/classes/total:bytes")) == nil {
			select {
			case <-ticker.C:
			case <-end:
				return
			}
		}
	}()
	return func() { close(end) }
}
