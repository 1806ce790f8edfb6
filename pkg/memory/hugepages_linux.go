// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"errors"
	"strings"
	"time"
	"unsafe"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

const (
	// growth is by how many bytes the memory has to grow to be looked at again.
	growth = 32 << 20
	// glances is how often it is looked whether it has.
	glances = time.Second
	// region is how many bits of an address differ within the heap: the runtime takes what follows one address, and only if
	// that is taken tries another one that differs in the bits above.
	region = 40
)

// hugePages has the heap in huge pages, on a Linux that gives them to who asks (madvise(2), MADV_HUGEPAGE), as most
// distributions have it. Where they are for everybody or for nobody that changes nothing.
type hugePages struct {
	// seen is how many bytes the runtime had from the system when it was looked at.
	seen uint64
}

// tune asks for huge pages for what the heap has grown by. What has been used of that already becomes huge when the kernel
// finds the time.
func (h *hugePages) tune(total uint64) error {
	if total < h.seen+growth {
		return nil
	}
	h.seen = total
	self, err := procfs.Self()
	if err != nil {
		return err
	}
	maps, err := self.ProcMaps()
	if err != nil {
		return err
	}
	within := uintptr(unsafe.Pointer(h)) >> region
	var errs []error
	for _, m := range maps {
		anonymous := m.Pathname == "" || strings.HasPrefix(m.Pathname, "[anon: Go: heap")
		if anonymous && m.Perms.Write && m.Perms.Private && m.StartAddr>>region == within {
			if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.StartAddr, m.EndAddr-m.StartAddr, unix.MADV_HUGEPAGE); errno != 0 {
				errs = append(errs, errno)
			}
		}
	}
	return errors.Join(errs...)
}

// adviseHugePages has the heap in huge pages until it is stopped, or that fails.
func adviseHugePages() (stop func()) {
	h := &hugePages{}
	end := make(chan struct{})
	go func() {
		ticker := time.NewTicker(glances)
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
