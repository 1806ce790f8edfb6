// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package text limits the length of what controllers write.
package text

import "unicode/utf8"

// MaxNote is the length of the note of an event, in bytes. The API server refuses longer ones.
const MaxNote = 1024

// Cut returns a text of at most so many bytes, of which there must be three at least. A longer one ends in three
// dots, and no character is cut in two.
func Cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	const mark = "..."
	end := most - len(mark)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + mark
}
