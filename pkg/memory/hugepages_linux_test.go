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

// mappings are those of this process that have a part of what is given: how many bytes of them are in huge pages, and whether
// those were asked for, for all of them.
func mappings(t *testing.T, given [][]byte) (huge int, asked bool) {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	within, found := false, false
	asked = true
	for line := range strings.Lines(string(smaps)) {
		if match := mapping.FindStringSubmatch(line); match != nil {
			var start, end uintptr
			if _, err := fmt.Sscanf(match[1]+" "+match[2], "%x %x", &start, &end); err != nil {
				t.Fatal(err)
			}
			within = slices.ContainsFunc(given, func(memory []byte) bool {
				return start <= uintptr(unsafe.Pointer(&memory[len(memory)-1])) && uintptr(unsafe.Pointer(&memory[0])) < end
			})
			found = found || within
		} else if size, ok := strings.CutPrefix(line, "AnonHugePages:"); ok && within {
			var kib int
			if _, err := fmt.Sscanf(size, "%d kB", &kib); err != nil {
				t.Fatal(err)
			}
			huge += kib << 10
		} else if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && within {
			asked = asked && slices.Contains(strings.Fields(flags), "hg")
		}
	}
	if !found {
		t.Fatal("nothing is there")
	}
	return huge, asked
}

// collapses tells whether the kernel makes huge pages of memory that is used already: Linux 6.1 and later do, if they have
// the room.
func collapses(t *testing.T) bool {
	t.Helper()
	used, err := unix.Mmap(-1, 0, 8<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(used); err != nil {
			t.Error(err)
		}
	}()
	touch(used)
	from := uintptr(unsafe.Pointer(&used[0]))
	return stretch{from, from + uintptr(len(used))}.madvise(unix.MADV_COLLAPSE) == nil
}

// touch writes to each page.
func touch(memory []byte) {
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
}

// TestHugePages has the heap grow, uses it at once, and looks at what the kernel makes of it.
func TestHugePages(t *testing.T) {
	who, err := os.ReadFile(setting)
	if errors.Is(err, fs.ErrNotExist) {
		// A kernel without them says so, which ends it.
		if err := (&hugePages{}).tune(growth); !errors.Is(err, unix.EINVAL) {
			t.Errorf("got %v", err)
		}
		return
	}
	nobody := strings.Contains(string(who), "[never]")
	collapses := !nobody && collapses(t)
	var all [][]byte
	for n := range 2 {
		memory := make([]byte, 100<<20)
		touch(memory)
		all = append(all, memory)
		if n == 0 {
			// What is used before it begins is seen to, too.
			defer adviseHugePages(10 * time.Millisecond)()
		}
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			huge, asked := mappings(t, all)
			if want := len(all) * len(memory); asked != nobody && (!collapses || huge >= want/2) {
				break
			} else if time.Now().After(deadline) {
				t.Fatalf("huge pages asked for: %v; %d of %d bytes are in them, want half", asked, huge, want)
			}
		}
	}
	runtime.KeepAlive(all)
}
