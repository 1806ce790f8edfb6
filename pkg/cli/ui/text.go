// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"fmt"
	"strings"
	"unicode"
)

// plain returns text without the characters that change how the text around them is shown: control characters, and those
// that change the direction of writing. It replaces them by their escapes, so that one sees that they are there.
func plain(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unprintable(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// unprintable reports whether plain replaces a character: Unicode categories Cc (control), Cf (format, which includes
// the bidirectional controls), Zl and Zp (line and paragraph separator), and bytes that are not UTF-8.
func unprintable(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) || r == unicode.ReplacementChar
}
