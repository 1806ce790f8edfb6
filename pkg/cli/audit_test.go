// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"
)

func TestParseAudit(t *testing.T) {
	t.Parallel()
	const compared = "ipam_claims_compared_timestamp_seconds 1.7e+09\n"
	for metrics, want := range map[string]string{
		"": "nothing",
		"# HELP ipam_claims_compared_timestamp_seconds x\napiserver_request_total{code=\"200\"} 7\n": "nothing",
		"ipam_claims_differences{kind=\"Overlap\"} 3\n":                                              "nothing",
		"ipam_claims_compared_timestamp_seconds 0\n":                                                 "nothing",
		"ipam_claims_compared_timestamp_seconds +Inf\n":                                              "nothing",
		compared: "2023-11-14 no differences",
		compared + "ipam_claims_differences{kind=\"Overlap\"} 0\n": "2023-11-14 no differences",
		"ipam_claims_differences{kind=\"Overlap\"} 3\nipam_claims_differences{kind=\"Leftover\"} 1e+00\nipam_claims_differences{kind=\"Other\"} NaN\n" + compared: "2023-11-14 differences: 1 Leftover, 3 Overlap",
	} {
		audit, err := parseAudit(strings.NewReader(metrics))
		got := "nothing"
		if audit != nil {
			got = audit.Time.Format("2006-01-02 ") + audit.String()
		}
		if got != want || err != nil {
			t.Errorf("%q: %s, %v, not %s", metrics, got, err, want)
		}
	}
}
