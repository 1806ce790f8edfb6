// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// mistake is an expected error. detail is a part of its message, or empty.
type mistake struct {
	errorType field.ErrorType
	path      string
	detail    string
}

func (m mistake) String() string { return fmt.Sprintf("%s: %s: %q", m.path, m.errorType, m.detail) }

func mistakeOf(errorType field.ErrorType, path string, detail []string) mistake {
	return mistake{errorType, path, strings.Join(detail, " ")}
}

func required(path string, detail ...string) mistake {
	return mistakeOf(field.ErrorTypeRequired, path, detail)
}

func invalid(path string, detail ...string) mistake {
	return mistakeOf(field.ErrorTypeInvalid, path, detail)
}

func forbidden(path string, detail ...string) mistake {
	return mistakeOf(field.ErrorTypeForbidden, path, detail)
}

func notSupported(path string, detail ...string) mistake {
	return mistakeOf(field.ErrorTypeNotSupported, path, detail)
}

// check fails the test unless got contains exactly the expected errors, each once, in any order.
func check(t *testing.T, got field.ErrorList, want ...mistake) {
	t.Helper()
	extra := slices.Clone(got)
	for _, w := range want {
		i := slices.IndexFunc(extra, func(err *field.Error) bool {
			return err.Type == w.errorType && err.Field == w.path && strings.Contains(err.Detail, w.detail)
		})
		if i < 0 {
			t.Errorf("not reported: %s\namong: %v", w, got)
			continue
		}
		extra = slices.Delete(extra, i, i+1)
	}
	for _, err := range extra {
		t.Errorf("reported in excess: %v", err)
	}
}

const notCIDR = "must be a prefix in CIDR notation"

// badPrefixes are invalid wherever a prefix is expected, with this message. The tests of package cidr have all
// cases.
var badPrefixes = []struct{ name, prefix, detail string }{
	{"word", "default", notCIDR},
	{"address", "10.0.0.0", " with a length"},
	{"length out of range, v4", "10.0.0.0/33", " with a length between 0 and 32"},
	{"length out of range, v6", "2001:db8::/129", " with a length between 0 and 128"},
	{"newline after", "10.0.0.0/8\n", "white space"},
	{"leading zero, v4", "010.0.0.0/8", "leading zeros in the address"},
	{"leading zero in the length", "10.0.0.0/08", "leading zeros in the length, /8"},
	{"zone", "fe80::%eth0/64", " without a zone"},
	{"IPv4-mapped", "::ffff:10.0.0.0/104", "did you mean 10.0.0.0/8?"},
	{"host bits, v4", "10.0.0.1/24", "must not have host bits set, did you mean 10.0.0.0/24?"},
	{"host bits, v6", "2001:db8::1/32", "must not have host bits set, did you mean 2001:db8::/32?"},
	{"uppercase", "2001:DB8::/32", "must be in canonical form, 2001:db8::/32"},
}

// badNames are invalid as names of objects and in references.
var badNames = []struct{ name, value, detail string }{
	{"uppercase", "Parent", "RFC 1123 subdomain"},
	{"underscore", "a_b", "RFC 1123 subdomain"},
	{"slash", "default/parent", "RFC 1123 subdomain"},
	{"dash first", "-a", "RFC 1123 subdomain"},
	{"dot last", "a.", "RFC 1123 subdomain"},
	{"empty label", "a..b", "RFC 1123 subdomain"},
	{"too long", strings.Repeat("a", 254), "must be no more than 253"},
}

// badSelectors are invalid wherever a selector is expected. The error has a path below that of the selector.
var badSelectors = []struct {
	name     string
	selector metav1.LabelSelector
	want     func(path string) mistake
}{
	{"unknown operator", requirement("key", "Near", "a"), func(p string) mistake {
		return invalid(p+".matchExpressions[0].operator", "not a valid selector operator")
	}},
	{"no operator", requirement("key", ""), func(p string) mistake { return invalid(p + ".matchExpressions[0].operator") }},
	{"bad key", requirement("bad key", metav1.LabelSelectorOpExists), func(p string) mistake { return invalid(p + ".matchExpressions[0].key") }},
	{"In without values", requirement("key", metav1.LabelSelectorOpIn), func(p string) mistake { return required(p + ".matchExpressions[0].values") }},
	{"NotIn without values", requirement("key", metav1.LabelSelectorOpNotIn), func(p string) mistake { return required(p + ".matchExpressions[0].values") }},
	{"Exists with values", requirement("key", metav1.LabelSelectorOpExists, "a"), func(p string) mistake { return forbidden(p + ".matchExpressions[0].values") }},
	{"bad value", requirement("key", metav1.LabelSelectorOpIn, "a", "bad value"), func(p string) mistake { return invalid(p + ".matchExpressions[0].values[1]") }},
	{"bad label key", metav1.LabelSelector{MatchLabels: map[string]string{"bad key": "a"}}, func(p string) mistake { return invalid(p + ".matchLabels") }},
	{"bad label value", metav1.LabelSelector{MatchLabels: map[string]string{"key": "bad value"}}, func(p string) mistake { return invalid(p + ".matchLabels") }},
}

func requirement(key string, operator metav1.LabelSelectorOperator, values ...string) metav1.LabelSelector {
	return metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: operator, Values: values}}}
}

var goodCondition = metav1.Condition{
	Type: v1alpha1.ConditionAllocated, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonParentExhausted,
	Message: "No room", ObservedGeneration: 1, LastTransitionTime: metav1.Unix(1700000000, 0),
}

// badConditions are invalid in every status. The errors have paths below status.conditions.
var badConditions = []struct {
	name   string
	mutate func(c *metav1.Condition)
	want   mistake
}{
	{"no type", func(c *metav1.Condition) { c.Type = "" }, required("status.conditions[0].type")},
	{"bad type", func(c *metav1.Condition) { c.Type = "All ocated" }, invalid("status.conditions[0].type")},
	{"no status", func(c *metav1.Condition) { c.Status = "" }, required("status.conditions[0].status")},
	{"unknown status", func(c *metav1.Condition) { c.Status = "Maybe" }, notSupported("status.conditions[0].status")},
	{"no reason", func(c *metav1.Condition) { c.Reason = "" }, required("status.conditions[0].reason")},
	{"bad reason", func(c *metav1.Condition) { c.Reason = "No room" }, invalid("status.conditions[0].reason")},
	{"long message", func(c *metav1.Condition) { c.Message = strings.Repeat("a", 32769) }, mistake{field.ErrorTypeTooLong, "status.conditions[0].message", ""}},
	{"no time", func(c *metav1.Condition) { c.LastTransitionTime = metav1.Time{} }, required("status.conditions[0].lastTransitionTime")},
	{"negative generation", func(c *metav1.Condition) { c.ObservedGeneration = -1 }, invalid("status.conditions[0].observedGeneration")},
}

// checkConditions calls validate with all badConditions.
func checkConditions(t *testing.T, validate func(conditions ...metav1.Condition) field.ErrorList) {
	t.Run("good condition", func(t *testing.T) { check(t, validate(goodCondition)) })
	t.Run("condition twice", func(t *testing.T) {
		check(t, validate(goodCondition, goodCondition), mistake{field.ErrorTypeDuplicate, "status.conditions[1]", ""})
	})
	for _, tt := range badConditions {
		t.Run("condition with "+tt.name, func(t *testing.T) {
			condition := goodCondition
			tt.mutate(&condition)
			check(t, validate(condition), tt.want)
		})
	}
}
