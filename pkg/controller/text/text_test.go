// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package text

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCut(t *testing.T) {
	for _, text := range []string{"", "a", "abcdef", strings.Repeat("ä", 10), strings.Repeat("日本", 5), "a\xffb\xff\xff\xff\xff"} {
		for most := 3; most < 30; most++ {
			got := Cut(text, most)
			head := strings.TrimSuffix(got, "...")
			switch {
			case len(got) > most:
				t.Errorf("Cut(%q, %d) = %q, which is too long", text, most, got)
			case len(text) <= most && got != text:
				t.Errorf("Cut(%q, %d) = %q, and need not be cut", text, most, got)
			case !strings.HasPrefix(text, head):
				t.Errorf("Cut(%q, %d) = %q", text, most, got)
			case utf8.ValidString(text) && !utf8.ValidString(got):
				t.Errorf("Cut(%q, %d) = %q, which has half a character", text, most, got)
			case len(text) > most && len(got) < most-utf8.UTFMax:
				t.Errorf("Cut(%q, %d) = %q, which is too short", text, most, got)
			}
		}
	}
}
