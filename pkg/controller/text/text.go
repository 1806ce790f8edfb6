// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package text limits the length of texts that controllers write to the API.
package text

import "unicode/utf8"

// MaxNote is the maximum length of the note of an event, in bytes. The API server rejects longer notes.
const MaxNote = 1024

// Cut truncates text to at most most bytes. A truncated text ends in "...", and no UTF-8 character is split. most must be
// at least 3.
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
