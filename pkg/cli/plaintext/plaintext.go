// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package plaintext escapes the characters in text from a cluster that change how the text around them is shown. It is the
// only rule for that, in the terminal and in the browser.
package plaintext

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape returns a text in which escapes stand for characters that control a terminal, that cannot be seen, or that change
// the direction of writing, so that one sees that they are there. An example is \u001b.
func Escape(text string) string { return escape(text, unsafe) }

// unsafe reports whether Escape replaces a character: Unicode categories Cc (control), Cf (format, which includes the
// bidirectional controls), Zl and Zp (line and paragraph separator), and bytes that are not UTF-8.
func unsafe(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) || r == utf8.RuneError
}

// escape replaces the characters for which replace returns true.
func escape(text string, replace func(rune) bool) string {
	if !strings.ContainsFunc(text, replace) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case !replace(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// writer is what NewWriter returns.
type writer struct{ out io.Writer }

// NewWriter returns a writer that escapes what is written to it, except for line breaks and tabs. Each write must consist
// of whole characters.
func NewWriter(out io.Writer) io.Writer { return writer{out} }

// Write implements io.Writer.
func (w writer) Write(p []byte) (int, error) {
	text := escape(string(p), func(r rune) bool { return r != '\n' && r != '\t' && unsafe(r) })
	if _, err := io.WriteString(w.out, text); err != nil {
		return 0, err
	}
	return len(p), nil
}
