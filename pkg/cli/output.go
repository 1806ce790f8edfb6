// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"
)

// outputVersion is the apiVersion of what the commands print as JSON or YAML.
const outputVersion = "cli.ipam.ironcore.dev/v1alpha1"

// none stands for an empty cell.
const none = "<none>"

// column is a column of a table.
type column struct {
	name string
	// wide is set if the column appears in wide output only.
	wide bool
}

// result is what a command prints.
type result struct {
	// kind is the kind of the document in JSON and YAML.
	kind    string
	columns []column
	rows    []row
	// each yields the rows one at a time. If it is set, rows is empty.
	each iter.Seq[row]
	// before and after are the lines above and below the table.
	before, after []string
	// fields are the fields of the document besides its items.
	fields map[string]any
}

// row is a row of a table, which is an item of the document in JSON and YAML.
type row struct {
	cells []string
	item  any
	// name is the name of the Prefix in the row. It is empty if the row is about something else.
	name string
	// color is the color of the last cell.
	color color
}

// all returns the rows.
func (r result) all() iter.Seq[row] {
	if r.each != nil {
		return r.each
	}
	return slices.Values(r.rows)
}

// color is an ANSI color.
type color int

const (
	plain   color = 0
	red     color = 31
	green   color = 32
	yellow  color = 33
	blue    color = 34
	magenta color = 35
	cyan    color = 36
	gray    color = 90
)

// paint returns a text in the color.
func (c color) paint(text string) string {
	if c == plain {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", c, text)
}

// formats are the values of the flag --output that need no template.
var formats = []string{"table", "wide", "json", "yaml", "name"}

// checkOutput fails if the flag --output is not valid, before anything is read or written.
func (s *session) checkOutput() error {
	if columns, ok := strings.CutPrefix(s.output, "custom-columns="); ok {
		_, err := parseColumns(columns)
		return err
	}
	if slices.Contains(formats, s.output) {
		return nil
	}
	_, err := s.printer()
	return err
}

// printer returns the printer for documents.
func (s *session) printer() (printers.ResourcePrinter, error) {
	flags := genericclioptions.NewPrintFlags("").WithDefaultOutput(s.output)
	printer, err := flags.ToPrinter()
	if err != nil {
		return nil, exitf(ExitUsage, "unknown output format %q: use table, wide, json, yaml, name, jsonpath=TEMPLATE, "+
			"go-template=TEMPLATE or custom-columns=SPEC", s.output)
	}
	return printer, nil
}

// isTable reports whether the output is a table.
func (s *session) isTable() bool { return s.output == "table" || s.output == "wide" }

// print prints the result of a command.
func (s *session) print(r result) error {
	if s.isTable() {
		s.printLines(r.before)
		if len(r.rows) > 0 && len(r.before) > 0 {
			fmt.Fprintln(s.Out)
		}
		if err := s.printTable(r); err != nil {
			return err
		}
		if len(r.after) > 0 {
			fmt.Fprintln(s.Out)
		}
		s.printLines(r.after)
		return nil
	}
	if s.output == "name" {
		for row := range r.all() {
			if row.name != "" {
				fmt.Fprintf(s.machineOut(), "prefix.%s/%s\n", v1alpha1.GroupVersion.Group, row.name)
			}
		}
		return nil
	}
	items := make([]any, 0, len(r.rows))
	for row := range r.all() {
		if row.item != nil {
			items = append(items, row.item)
		}
	}
	document := map[string]any{"apiVersion": outputVersion, "kind": r.kind, "items": items}
	maps.Copy(document, r.fields)
	return s.printDocument(document)
}

// printDocument prints a document with an apiVersion and a kind as JSON, as YAML, or by a template.
func (s *session) printDocument(document any) error {
	data, err := json.Marshal(document)
	if err != nil {
		return err
	}
	obj := &unstructured.Unstructured{}
	if err := json.Unmarshal(data, &obj.Object); err != nil {
		return err
	}
	if columns, ok := strings.CutPrefix(s.output, "custom-columns="); ok {
		return printColumns(s.machineOut(), columns, obj.Object)
	}
	if s.output == "yaml" {
		return printYAML(s.machineOut(), obj)
	}
	printer, err := s.printer()
	if err != nil {
		return err
	}
	return printer.PrintObj(obj, s.machineOut())
}

// printYAML prints a document as YAML. The printer of cli-runtime fails on control characters that JSON may have as they are,
// but YAML may not: any annotation can have them.
func printYAML(out io.Writer, document any) error {
	data, err := json.Marshal(document)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, r := range string(data) {
		if r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0xfeff || r == 0xfffe || r == 0xffff {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	text, err := yaml.JSONToYAML([]byte(b.String()))
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

// kindOf returns a kind of the API group.
func kindOf(kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: v1alpha1.GroupVersion.Group, Version: v1alpha1.GroupVersion.Version, Kind: kind}
}

// object is what printObject prints.
type object interface {
	metav1.Object
	runtime.Object
}

// printObject prints an object as kubectl get does. It changes the object. Of one that the server has not seen, it prints
// what would be sent.
func (s *session) printObject(obj object, kind string) error {
	if s.output == "name" {
		fmt.Fprintf(s.machineOut(), "%s.%s/%s\n", strings.ToLower(kind), v1alpha1.GroupVersion.Group, obj.GetName())
		return nil
	}
	obj.SetManagedFields(nil)
	obj.GetObjectKind().SetGroupVersionKind(kindOf(kind))
	document, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return err
	}
	if obj.GetUID() == "" {
		delete(document, "status")
		unstructured.RemoveNestedField(document, "metadata", "creationTimestamp")
	}
	return s.printDocument(document)
}

// machineOut returns standard output for formats that programs read. They are not changed, unless they go to a terminal.
func (s *session) machineOut() io.Writer {
	if s.IsTerminal(s.Out) {
		return plaintext.NewWriter(s.Out)
	}
	return s.Out
}

// printLines prints lines for a person.
func (s *session) printLines(lines []string) {
	for _, line := range lines {
		fmt.Fprintln(s.Out, plaintext.Escape(line))
	}
}

// maxBlock is the number of rows that are kept to align their columns. In the rows that follow a column may be wider, as in
// what kubectl get prints of several pages.
const maxBlock = 10_000

// printTable prints a table.
func (s *session) printTable(r result) error {
	w := printers.GetNewTabWriter(s.Out)
	shown := func(i int) bool { return !r.columns[i].wide || s.output == "wide" }
	var line []string
	for i, column := range r.columns {
		if shown(i) {
			line = append(line, column.name)
		}
	}
	header := strings.Join(line, "\t")
	colors := s.AllowsColor(s.Out)
	count := 0
	for row := range r.all() {
		if count == 0 {
			fmt.Fprintln(w, header)
		}
		if count++; count%maxBlock == 0 {
			if err := w.Flush(); err != nil {
				return err
			}
		}
		line = line[:0]
		for i, cell := range row.cells {
			if !shown(i) {
				continue
			}
			cell = plaintext.Escape(cell)
			if colors && i == len(row.cells)-1 {
				cell = row.color.paint(cell)
			}
			line = append(line, cell)
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(line, "\t"), "\t"))
	}
	return w.Flush()
}

// customColumn is a column of the format custom-columns.
type customColumn struct {
	header string
	path   *jsonpath.JSONPath
}

// parseColumns parses the argument of custom-columns, such as NAME:.name,PREFIX:.prefix.
func parseColumns(spec string) ([]customColumn, error) {
	var columns []customColumn
	for _, part := range strings.Split(spec, ",") {
		header, path, ok := strings.Cut(part, ":")
		if !ok || header == "" || path == "" {
			return nil, exitf(ExitUsage, "custom-columns: %q is not NAME:PATH, such as NAME:.name", part)
		}
		path = strings.TrimPrefix(strings.TrimSuffix(strings.TrimPrefix(path, "{"), "}"), ".")
		column := customColumn{header, jsonpath.New(header).AllowMissingKeys(true)}
		if err := column.path.Parse("{." + path + "}"); err != nil {
			return nil, exitf(ExitUsage, "custom-columns: %w", err)
		}
		columns = append(columns, column)
	}
	return columns, nil
}

// printColumns prints the items of a document, or the document if it has none, as custom-columns says.
func printColumns(out io.Writer, spec string, document map[string]any) error {
	columns, err := parseColumns(spec)
	if err != nil {
		return err
	}
	items, ok := document["items"].([]any)
	if !ok {
		items = []any{document}
	}
	w := printers.GetNewTabWriter(out)
	line := make([]string, len(columns))
	for i, column := range columns {
		line[i] = column.header
	}
	fmt.Fprintln(w, strings.Join(line, "\t"))
	for _, item := range items {
		for i, column := range columns {
			found, err := column.path.FindResults(item)
			if err != nil {
				return err
			}
			var values []string
			for _, result := range found {
				for _, value := range result {
					values = append(values, plaintext.Escape(fmt.Sprint(value.Interface())))
				}
			}
			if line[i] = strings.Join(values, ","); line[i] == "" {
				line[i] = none
			}
		}
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	return w.Flush()
}
