// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
)

// The columns of CSV that export writes, in this order. import reads them in any order, and needs prefix or length.
var csvColumns = []string{"namespace", "name", "prefix", "length", "family", "parent", "selector", "labels", "description"}

// netboxLabels are the columns of a NetBox export that become labels of the same name.
var netboxLabels = []string{"vrf", "tenant", "site", "role", "status"}

// descriptionAnnotation is the annotation with the column description.
const descriptionAnnotation = "ipam.ironcore.dev/description"

// maxRecords is the number of lines that import reads from one file.
const maxRecords = 2_000_000

// record is a line of a file to import.
type record struct {
	line int
	// prefix is what is asked for. It is not valid in a Prefix that asks for a length.
	prefix netip.Prefix
	// hasParent is set if the file says what the parent is, or that there is none.
	hasParent bool
	object    *v1alpha1.Prefix
	// err says what is wrong with the line.
	err error
}

// readCSV reads the lines of a CSV file. Lines with a mistake are returned, too. It fails if the file as such cannot be
// read: the quoting or the header is wrong.
func readCSV(in io.Reader) ([]*record, error) {
	data, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	// Spreadsheets begin a file with a byte order mark.
	reader := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	reader.FieldsPerRecord = -1
	header, err := reader.Read()
	if errors.Is(err, io.EOF) {
		return nil, exitf(ExitInvalid, "the file is empty")
	}
	if err != nil {
		return nil, exitf(ExitInvalid, "%w", err)
	}
	for i := range header {
		header[i] = strings.ToLower(strings.TrimSpace(header[i]))
	}
	if len(header) == 1 && strings.Contains(header[0], ";") {
		return nil, exitf(ExitInvalid, "line 1: the fields must be separated by commas, not by semicolons")
	}
	for i, column := range header {
		if column != "" && slices.Index(header, column) != i {
			return nil, exitf(ExitInvalid, "line 1: the column %q is there twice", column)
		}
	}
	if !slices.Contains(header, "prefix") && !slices.Contains(header, "length") {
		return nil, exitf(ExitInvalid, "line 1: there is neither a column prefix nor a column length; the first line must name the columns")
	}
	var records []*record
	for {
		fields, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return nil, exitf(ExitInvalid, "%w", err)
		}
		line, _ := reader.FieldPos(0)
		if len(records) == maxRecords {
			return nil, exitf(ExitInvalid, "line %d: a file may have %d lines", line, maxRecords)
		}
		values := map[string]string{}
		for i, field := range fields {
			if i < len(header) {
				values[header[i]] = strings.TrimSpace(field)
			}
		}
		r := &record{line: line}
		if len(fields) > len(header) {
			r.err = fmt.Errorf("there are %d fields, but %d columns", len(fields), len(header))
		} else {
			r.err = r.parse(values, slices.Contains(header, "parent"))
		}
		records = append(records, r)
	}
}

// parse fills a record from the columns of its line. knowsParents is set if the file has a column for the parent.
func (r *record) parse(values map[string]string, knowsParents bool) error {
	r.object = &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: values["namespace"], Name: values["name"]}}
	length, err := r.parseRange(values)
	if err != nil {
		return err
	}
	if err := r.parseParent(values); err != nil {
		return err
	}
	spec := &r.object.Spec
	r.hasParent = knowsParents || !spec.IsRoot()
	if !spec.IsRoot() || spec.Prefix == "" {
		spec.PrefixLength = length
	}
	if spec.Prefix == "" {
		switch {
		case spec.PrefixLength == 0:
			return errors.New("there is neither a prefix nor a length")
		case spec.IsRoot():
			return errors.New("a length needs a parent or a selector")
		}
	}
	if err := r.parseLabels(values); err != nil {
		return err
	}
	if s := values["description"]; s != "" {
		r.object.Annotations = map[string]string{descriptionAnnotation: s}
	}
	return r.completeName()
}

// parseRange sets the prefix from the column prefix, and the family. It returns the length from the column length, or 0.
func (r *record) parseRange(values map[string]string) (length int32, err error) {
	spec := &r.object.Spec
	if s := values["prefix"]; s != "" {
		prefix, err := cidr.Parse(s)
		if err != nil {
			return 0, fmt.Errorf("prefix: %q %w", s, err)
		}
		r.prefix, spec.Prefix = prefix, s
	}
	if s := values["length"]; s != "" {
		parsed, err := strconv.ParseUint(strings.TrimPrefix(s, "/"), 10, 8)
		if err != nil || parsed == 0 || parsed > 128 {
			return 0, fmt.Errorf("length: %q must be between 1 and 128", s)
		}
		length = int32(parsed)
		if r.prefix.IsValid() && r.prefix.Bits() != int(length) {
			return 0, fmt.Errorf("length: %d is not that of %s", length, r.prefix)
		}
	}
	switch family := values["family"]; family {
	case "", cidr.IPv4, cidr.IPv6:
		spec.IPFamily = v1alpha1.IPFamily(family)
	case "4", "6":
		spec.IPFamily = v1alpha1.IPFamily("IPv" + family)
	default:
		return 0, fmt.Errorf("family: %q must be IPv4 or IPv6", family)
	}
	if r.prefix.IsValid() && spec.IPFamily != "" && string(spec.IPFamily) != cidr.FamilyOf(r.prefix) {
		return 0, fmt.Errorf("family: %s is not %s", r.prefix, spec.IPFamily)
	}
	return length, nil
}

// parseParent sets the parent from the column parent, and the selector.
func (r *record) parseParent(values map[string]string) error {
	spec := &r.object.Spec
	if s := values["parent"]; s != "" {
		namespace, name, foreign := strings.Cut(s, "/")
		switch {
		case !foreign:
			namespace, name = "", s
		case len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0:
			return fmt.Errorf("parent: %q must be a name, or NAMESPACE/NAME", s)
		}
		if spec.ParentRef = (&v1alpha1.LocalObjectReference{Name: name}); namespace != r.object.Namespace {
			spec.ParentNamespace = namespace
		}
	}
	if s := values["selector"]; s != "" {
		selector, err := metav1.ParseToLabelSelector(s)
		if err != nil {
			return fmt.Errorf("selector: %w", err)
		}
		spec.ParentSelector = selector
	}
	return nil
}

// completeName names a Prefix that has no name after its range, and checks the name and the namespace.
func (r *record) completeName() error {
	p := r.object
	if p.Name == "" {
		if !r.prefix.IsValid() {
			return errors.New("a length needs a name")
		}
		p.Name = nameOf(r.prefix)
	}
	if mistakes := validation.IsDNS1123Subdomain(p.Name); len(mistakes) > 0 {
		return fmt.Errorf("name: %q: %s", p.Name, mistakes[0])
	}
	if mistakes := validation.IsDNS1123Label(p.Namespace); p.Namespace != "" && len(mistakes) > 0 {
		return fmt.Errorf("namespace: %q: %s", p.Namespace, mistakes[0])
	}
	return nil
}

// parseLabels sets the labels from the column labels and from the columns of NetBox.
func (r *record) parseLabels(values map[string]string) error {
	set := map[string]string{}
	if s := values["labels"]; s != "" {
		parsed, err := labels.ConvertSelectorToLabelsMap(strings.ReplaceAll(s, ";", ","))
		if err != nil {
			return fmt.Errorf("labels: %w", err)
		}
		for key, value := range parsed {
			set[key] = value
		}
	}
	for _, column := range netboxLabels {
		if value := labelValue(values[column]); value != "" {
			if _, ok := set[column]; !ok {
				set[column] = value
			}
		}
	}
	if len(set) > 0 {
		r.object.Labels = set
	}
	return nil
}

// labelValue returns a text as the value of a label: other characters become hyphens.
func labelValue(text string) string {
	const most = validation.LabelValueMaxLength
	value := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
			return c
		}
		return '-'
	}, text)
	return strings.Trim(value[:min(len(value), most)], "-_.")
}

// nameOf returns the name of a Prefix that has none in the file, such as 10-0-0-0-24.
func nameOf(prefix netip.Prefix) string {
	address := prefix.Addr().String()
	if prefix.Addr().Is6() {
		address = prefix.Addr().StringExpanded()
	}
	return strings.NewReplacer(".", "-", ":", "-").Replace(address) + "-" + strconv.Itoa(prefix.Bits())
}

// writeCSVLine writes a Prefix as a line.
func writeCSVLine(w *csv.Writer, p *v1alpha1.Prefix) error {
	length, selector := "", ""
	if p.Spec.PrefixLength != 0 {
		length = strconv.Itoa(int(p.Spec.PrefixLength))
	}
	if p.Spec.ParentSelector != nil {
		parsed, err := metav1.LabelSelectorAsSelector(p.Spec.ParentSelector)
		if err != nil {
			return err
		}
		selector = parsed.String()
	}
	pairs := strings.ReplaceAll(labels.Set(p.Labels).String(), ",", ";")
	return w.Write([]string{p.Namespace, p.Name, p.Spec.Prefix, length, string(p.Spec.IPFamily), parentInWords(p), selector, pairs, p.Annotations[descriptionAnnotation]})
}

// findParents sets the parents of the records of one namespace and VRF that do not say what their parent is: the smallest
// Prefix that contains them, of those in the file and those that are there.
func findParents(records []*record, there []*node) {
	type place struct {
		prefix netip.Prefix
		name   string
	}
	var places []place
	for _, n := range there {
		if n.prefix.IsValid() {
			places = append(places, place{n.prefix, n.Name})
		}
	}
	for _, r := range records {
		if r.err == nil && r.prefix.IsValid() {
			places = append(places, place{r.prefix, r.object.Name})
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(comparePrefixes(a.prefix, b.prefix), strings.Compare(a.name, b.name))
	})
	parents := map[string]string{}
	var around []place
	for _, p := range places {
		for len(around) > 0 && !cidr.StrictlyInside(p.prefix, around[len(around)-1].prefix) {
			around = around[:len(around)-1]
		}
		if _, ok := parents[p.name]; !ok && len(around) > 0 {
			parents[p.name] = around[len(around)-1].name
		}
		around = append(around, p)
	}
	for _, r := range records {
		if parent := parents[nameIn(r)]; r.err == nil && !r.hasParent && parent != "" {
			r.object.Spec.ParentRef = &v1alpha1.LocalObjectReference{Name: parent}
		}
	}
}

// vrfOf returns the VRF of a record. Prefixes of different VRFs may overlap.
func vrfOf(r *record) string { return r.object.Labels["vrf"] }

// nameIn returns the name of the object of a record, if it has one.
func nameIn(r *record) string {
	if r.object == nil {
		return ""
	}
	return r.object.Name
}
