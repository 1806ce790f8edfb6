// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapping is the first line of one in /proc/self/smaps.
var mapping = regexp.MustCompile(`^([0-9a-f]+)-([0-9a-f]+) `)

// advised tells whether huge pages were asked for where an address is.
func advised(t *testing.T, address uintptr) bool {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	within := false
	for line := range strings.Lines(string(smaps)) {
		if match := mapping.FindStringSubmatch(line); match != nil {
			var start, end uintptr
			if _, err := fmt.Sscanf(match[1]+" "+match[2], "%x %x", &start, &end); err != nil {
				t.Fatal(err)
			}
			within = start <= address && address < end
		} else if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && within {
			return slices.Contains(strings.Fields(flags), "hg")
		}
	}
	t.Fatalf("nothing is at %x", address)
	return false
}

// TestHugePages has the heap grow, and looks at what the kernel makes of it.
func TestHugePages(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); errors.Is(err, fs.ErrNotExist) {
		// A kernel without them says so, which ends it.
		if err := (&hugePages{}).tune(growth); !errors.Is(err, unix.EINVAL) {
			t.Errorf("got %v", err)
		}
		return
	}
	stop := adviseHugePages()
	defer stop()
	var all [][]byte
	for range 3 {
		all = append(all, make([]byte, 100<<20))
		for deadline := time.Now().Add(10 * time.Second); !advisedAll(t, all); {
			if time.Now().After(deadline) {
				t.Fatalf("huge pages were not asked for all of %d", len(all))
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	runtime.KeepAlive(all)
}

// advisedAll tells whether huge pages were asked for all of it.
func advisedAll(t *testing.T, all [][]byte) bool {
	t.Helper()
	return !slices.ContainsFunc(all, func(b []byte) bool {
		return !advised(t, uintptr(unsafe.Pointer(&b[0]))) || !advised(t, uintptr(unsafe.Pointer(&b[len(b)-1])))
	})
}
