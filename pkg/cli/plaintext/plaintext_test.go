// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package plaintext

import (
	"strings"
	"testing"
)

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "",
		"root-1 10.0.0.0/8":          "root-1 10.0.0.0/8",
		"plain, ünïcode 漢字 ✓":        "plain, ünïcode 漢字 ✓",
		"<img src=x onerror=1>":      "<img src=x onerror=1>",
		"\x1b[31mred\x1b[0m":         `\u001b[31mred\u001b[0m`,
		"\x1b]0;title\x07":           `\u001b]0;title\u0007`,
		"\x1b]8;;http://x\x07link\a": `\u001b]8;;http://x\u0007link\u0007`,
		"a\x00b\nc\td\re":            `a\u0000b\nc\td\u000de`,
		"\u009b31m C1 control":       `\u009b31m C1 control`,
		"\u202egnp.exe":              `\u202egnp.exe`,
		"zero\u200bwidth\u2066":      `zero\u200bwidth\u2066`,
		"tag\U000e0041":              `tag\U000e0041`,
		"\u2028line\u2029":           `\u2028line\u2029`,
		"del\x7f":                    `del\u007f`,
		"bad\xff":                    `bad\ufffd`,
	} {
		if got := Escape(text); got != want {
			t.Errorf("%q: %q instead of %q", text, got, want)
		}
		var b strings.Builder
		want = strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(want)
		if n, err := NewWriter(&b).Write([]byte(text)); n != len(text) || err != nil || b.String() != want {
			t.Errorf("%q is written as %q instead of %q, %d bytes, %v", text, b.String(), want, n, err)
		}
	}
}
