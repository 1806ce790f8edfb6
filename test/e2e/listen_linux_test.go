// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestListensOnLoopbackOnly reads the sockets of the process from the kernel.
func TestListensOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	inodes := map[string]bool{}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if inode, ok := strings.CutPrefix(target, "socket:["); err == nil && ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	var listening []string
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", p.cmd.Process.Pid, table))
		if os.IsNotExist(err) {
			// The kernel does not support IPv6.
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(data), "\n")[1:] {
			fields := strings.Fields(line)
			// 0A is LISTEN. UDP sockets have no such state: each of them can receive.
			if len(fields) < 10 || !inodes[fields[9]] || strings.HasPrefix(table, "tcp") && fields[3] != "0A" {
				continue
			}
			listening = append(listening, table+" "+address(t, fields[1]))
		}
	}
	if want := []string{"tcp " + strings.TrimPrefix(p.url, "https://")}; !slices.Equal(listening, want) {
		t.Errorf("listens on %v, want %v", listening, want)
	}
}

// address parses an address of /proc/net: words of 32 bits in the byte order of the machine, and a port.
func address(t *testing.T, s string) string {
	t.Helper()
	host, port, _ := strings.Cut(s, ":")
	bytes, err := hex.DecodeString(host)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+4 <= len(bytes); i += 4 {
		slices.Reverse(bytes[i : i+4])
	}
	addr, ok := netip.AddrFromSlice(bytes)
	number, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return netip.AddrPortFrom(addr, uint16(number)).String()
}
