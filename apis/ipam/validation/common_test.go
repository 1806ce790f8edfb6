// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// mistake is what a test wants to be reported. The detail may be a part of the message, or empty.
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

// check wants exactly these mistakes, each of them once, in any order.
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

// badPrefixes are refused wherever a prefix is expected, with this message.
var badPrefixes = []struct{ name, prefix, detail string }{
	{"word", "default", notCIDR},
	{"address", "10.0.0.0", notCIDR},
	{"no length", "10.0.0.0/", notCIDR},
	{"no address", "/8", notCIDR},
	{"two lengths", "10.0.0.0/8/8", notCIDR},
	{"three bytes", "10.0.0/8", notCIDR},
	{"byte out of range", "256.0.0.0/8", notCIDR},
	{"hexadecimal byte", "0x0a.0.0.0/8", notCIDR},
	{"netmask", "10.0.0.0/255.0.0.0", notCIDR},
	{"length out of range, v4", "10.0.0.0/33", notCIDR},
	{"length out of range, v6", "2001:db8::/129", notCIDR},
	{"negative length", "10.0.0.0/-1", notCIDR},
	{"signed length", "10.0.0.0/+8", notCIDR},
	{"space before", " 10.0.0.0/8", notCIDR},
	{"space after", "10.0.0.0/8 ", notCIDR},
	{"newline after", "10.0.0.0/8\n", notCIDR},
	{"two double colons", "2001::db8::/32", notCIDR},
	{"leading zero, v4", "010.0.0.0/8", notCIDR},
	{"zero written twice, v4", "10.00.0.0/8", notCIDR},
	{"leading zero in the length, v4", "10.0.0.0/08", notCIDR},
	{"leading zero in the length, v6", "2001:db8::/032", notCIDR},
	{"zone", "fe80::%eth0/64", notCIDR},
	{"4in6, dotted", "::ffff:10.0.0.0/104", "must not be an IPv4-mapped IPv6 prefix"},
	{"4in6, hexadecimal", "::ffff:a00:0/104", "must not be an IPv4-mapped IPv6 prefix"},
	{"4in6 with host bits", "::ffff:10.0.0.1/64", "must not be an IPv4-mapped IPv6 prefix"},
	{"host bits, v4", "10.0.0.1/24", "must not have host bits set, did you mean 10.0.0.0/24?"},
	{"host bits, v4, all", "255.255.255.255/0", "did you mean 0.0.0.0/0?"},
	{"host bits, v6", "2001:db8::1/32", "must not have host bits set, did you mean 2001:db8::/32?"},
	{"host bits, uppercase", "2001:DB8::1/32", "did you mean 2001:db8::/32?"},
	{"uppercase", "2001:DB8::/32", "must be in canonical form, 2001:db8::/32"},
	{"uncompressed", "2001:db8:0:0:0:0:0:0/32", "must be in canonical form, 2001:db8::/32"},
	{"zero after double colon", "2001:db8::0/32", "must be in canonical form, 2001:db8::/32"},
	{"leading zero, v6", "2001:0db8::/32", "must be in canonical form, 2001:db8::/32"},
	{"shorter run compressed", "1::2:0:0:0:0/64", "must be in canonical form, 1:0:0:2::/64"},
	{"dotted, but not 4in6", "::1.2.3.4/128", "must be in canonical form, ::102:304/128"},
}

var goodPrefixes = []string{
	"0.0.0.0/0", "10.0.0.0/8", "10.0.0.128/25", "255.255.255.255/32",
	"::/0", "2000::/3", "2001:db8::/32", "1:0:0:2::/64", "::/96", "::fffe:0:0/95", "::1/128",
}

func TestParsePrefix(t *testing.T) {
	for _, s := range goodPrefixes {
		t.Run(s, func(t *testing.T) {
			if prefix, err := ParsePrefix(s); err != nil || prefix != netip.MustParsePrefix(s) {
				t.Errorf("got %v, %v", prefix, err)
			}
		})
	}
	for _, tt := range badPrefixes {
		t.Run(tt.name, func(t *testing.T) {
			prefix, err := ParsePrefix(tt.prefix)
			if err == nil || !strings.Contains(err.Error(), tt.detail) {
				t.Errorf("got %v, %v, want an error that has %q", prefix, err, tt.detail)
			}
			if prefix.IsValid() {
				t.Errorf("got %s along with an error", prefix)
			}
		})
	}
	if prefix, err := ParsePrefix(""); err == nil {
		t.Errorf("got %v for nothing", prefix)
	}
}

// suggestion finds the canonical form in an error. What only shows how a prefix looks is none.
var suggestion = regexp.MustCompile(`(?:did you mean (\S+)\?|canonical form, (\S+))$`)

func FuzzParsePrefix(f *testing.F) {
	f.Add("")
	for _, s := range goodPrefixes {
		f.Add(s)
	}
	for _, tt := range badPrefixes {
		f.Add(tt.prefix)
	}
	f.Fuzz(func(t *testing.T, s string) {
		loose, looseErr := netip.ParsePrefix(s)
		prefix, err := ParsePrefix(s)
		if err == nil {
			if looseErr != nil || prefix != loose {
				t.Fatalf("%q became %s, netip says %v, %v", s, prefix, loose, looseErr)
			}
			if prefix.String() != s || prefix.Masked() != prefix || prefix.Addr().Is4In6() || prefix.Addr().Zone() != "" {
				t.Fatalf("accepted %q, which is not canonical", s)
			}
			return
		}

		suggested := ""
		if match := suggestion.FindStringSubmatch(err.Error()); match != nil {
			suggested = match[1] + match[2]
		}
		switch {
		case looseErr != nil || loose.Addr().Is4In6():
			if suggested != "" {
				t.Fatalf("suggested %q for %q", suggested, s)
			}
		case suggested != loose.Masked().String():
			t.Fatalf("suggested %q for %q, want %s", suggested, s, loose.Masked())
		default:
			if _, err := ParsePrefix(suggested); err != nil {
				t.Fatalf("suggested %q for %q, but then: %v", suggested, s, err)
			}
		}
	})
}

func TestFamilyOf(t *testing.T) {
	for s, want := range map[string]ipam.IPFamily{"0.0.0.0/0": ipam.IPv4, "10.0.0.0/8": ipam.IPv4, "::/0": ipam.IPv6, "2001:db8::/32": ipam.IPv6} {
		if got := FamilyOf(netip.MustParsePrefix(s)); got != want {
			t.Errorf("got %s for %s, want %s", got, s, want)
		}
	}
}

// badNames are refused as names of objects and in references.
var badNames = []struct{ name, value, detail string }{
	{"uppercase", "Parent", "RFC 1123 subdomain"},
	{"underscore", "a_b", "RFC 1123 subdomain"},
	{"slash", "default/parent", "RFC 1123 subdomain"},
	{"dash first", "-a", "RFC 1123 subdomain"},
	{"dot last", "a.", "RFC 1123 subdomain"},
	{"empty label", "a..b", "RFC 1123 subdomain"},
	{"too long", strings.Repeat("a", 254), "must be no more than 253"},
}

// badSelectors are refused wherever a selector is expected, with a mistake below its path.
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
	Type: ipam.ConditionAllocated, Status: metav1.ConditionFalse, Reason: ipam.ReasonParentExhausted,
	Message: "No room", ObservedGeneration: 1, LastTransitionTime: metav1.Unix(1700000000, 0),
}

// badConditions are refused in any status, with mistakes below status.conditions.
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

// checkConditions runs all that can be wrong about conditions against a way to validate them.
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
