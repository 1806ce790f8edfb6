// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// The metrics of the API server about its own audit.
var (
	comparedMetric    = regexp.MustCompile(`^ipam_claims_compared_timestamp_seconds(?:\{[^}]*\})? (\S+)`)
	differencesMetric = regexp.MustCompile(`^ipam_claims_differences\{[^}]*kind="(\w+)"[^}]*\} (\S+)`)
)

// serverAudit is what the API server says about its own audit, in JSON and YAML, too.
type serverAudit struct {
	// Time is when it ended last.
	Time time.Time `json:"time"`
	// Differences are the numbers of those that it found, by kind, without those of which there are none.
	Differences map[string]int64 `json:"differences"`
}

// count returns the number of all differences.
func (a *serverAudit) count() (n int64) {
	for _, of := range a.Differences {
		n += of
	}
	return n
}

// String returns the differences for a person.
func (a *serverAudit) String() string {
	if a.count() == 0 {
		return "no differences"
	}
	var words []string
	for _, kind := range slices.Sorted(maps.Keys(a.Differences)) {
		words = append(words, fmt.Sprintf("%d %s", a.Differences[kind], kind))
	}
	return "differences: " + strings.Join(words, ", ")
}

// parseAudit reads metrics. It returns nil if they do not say anything about an audit.
func parseAudit(metrics io.Reader) (*serverAudit, error) {
	audit := &serverAudit{Differences: map[string]int64{}}
	lines := bufio.NewScanner(metrics)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if match := comparedMetric.FindStringSubmatch(lines.Text()); match != nil {
			if seconds, err := strconv.ParseFloat(match[1], 64); err == nil && seconds > 0 && seconds < 1e11 {
				audit.Time = time.Unix(int64(seconds), 0).UTC()
			}
		}
		if match := differencesMetric.FindStringSubmatch(lines.Text()); match != nil {
			if n, err := strconv.ParseFloat(match[2], 64); err == nil && n > 0 && n < 1e15 {
				audit.Differences[match[1]] = int64(n)
			}
		}
	}
	err := lines.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		// It is something else than metrics.
		return nil, nil
	}
	if audit.Time.IsZero() {
		audit = nil
	}
	return audit, err
}

// serverAudit returns what the API server says about its own audit, and says so. It returns nil if that is not known: the
// user may not read the metrics, or kube-apiserver is in between, which has its own ones.
func (s *session) serverAudit(ctx context.Context) (*serverAudit, error) {
	const unknown = "so what the audit of the API server itself found is not known: ask who runs it for the metric ipam_claims_differences."
	metrics, err := s.clients.ipam.RESTClient().Get().AbsPath("/metrics").Stream(ctx)
	switch {
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err), apierrors.IsNotFound(err):
		s.note("You may not read metrics, %s", unknown)
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer metrics.Close()
	audit, err := parseAudit(metrics)
	switch {
	case err != nil:
		return nil, err
	case audit == nil:
		s.note("The metrics are not those of the API server of Prefixes, %s", unknown)
	default:
		s.note("The audit of the API server itself ended at %s and found %s.", audit.Time.Format(time.RFC3339), audit)
	}
	return audit, nil
}
