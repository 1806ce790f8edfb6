// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// constant is a string constant with its comment.
type constant struct{ name, value, comment string }

// eachConstant calls f for the constants of a file, as they come.
func eachConstant(path string, f func(*ast.ValueSpec) error) error {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	for _, declaration := range file.Decls {
		block, ok := declaration.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		for _, spec := range block.Specs {
			if err := f(spec.(*ast.ValueSpec)); err != nil {
				return err
			}
		}
	}
	return nil
}

// constants returns the string constants of a file, as they come.
func constants(path string) (found []constant, err error) {
	err = eachConstant(path, func(value *ast.ValueSpec) error {
		text, ok := stringOf(value.Values[0])
		if !ok {
			return fmt.Errorf("%s: %s is no string", path, value.Names[0].Name)
		}
		found = append(found, constant{value.Names[0].Name, text, value.Doc.Text()})
		return nil
	})
	return found, err
}

func stringOf(expression ast.Expr) (string, bool) {
	literal, ok := expression.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(literal.Value)
	return text, err == nil
}

// writeConditions writes the conditions, reasons and causes, from the comments on their constants.
func writeConditions(root string, page *bytes.Buffer) error {
	all, err := constants(filepath.Join(root, "apis", "ipam", "v1alpha1", "types_condition.go"))
	if err != nil {
		return err
	}
	page.WriteString(`# Conditions and reasons

A reason and a message are in the condition of the object; in a cluster, events have the same reasons. What helps against
each is in [troubleshooting](../operating/troubleshooting.md).

`)
	left := len(all)
	for _, section := range []struct{ title, prefix, column string }{
		{"Conditions", "Condition", "type"},
		{"Reasons", "Reason", "reason"},
		{"Causes of a 409", "CauseType", "type in details.causes"},
	} {
		fmt.Fprintf(page, "## %s\n\n", section.title)
		header(page, section.column, "meaning")
		for _, c := range all {
			if strings.HasPrefix(c.name, section.prefix) {
				row(page, "`"+c.value+"`", about(c.name, c.comment))
				left--
			}
		}
		page.WriteString("\n")
	}
	if left != 0 {
		return fmt.Errorf("%d constants are in no section", left)
	}
	return nil
}

// programs are the processes that have the metrics of a package, the first that fits.
var programs = []struct{ directory, program string }{
	{"pkg/controller/certificate", "ipam-certificate-controller"},
	{"pkg/controller", "ipam-controller-manager"},
	{"pkg/apiserver", "ipam-apiserver"},
	{"registry", "ipam-apiserver"},
}

// metric is a metric of our own.
type metric struct{ program, name, kind, labels, help string }

// writeMetrics writes the metrics of our own, from where they are made.
func writeMetrics(root string, page *bytes.Buffer) error {
	var found []metric
	for _, top := range []string{"pkg", "registry"} {
		if err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			of, err := metricsOf(path)
			if err != nil || len(of) == 0 {
				return err
			}
			relative, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			for _, p := range programs {
				if strings.HasPrefix(filepath.ToSlash(relative), p.directory+"/") {
					for _, m := range of {
						m.program = p.program
						found = append(found, m)
					}
					return nil
				}
			}
			return fmt.Errorf("%s has metrics, and no program is known to have this package", path)
		}); err != nil {
			return err
		}
	}
	slices.SortFunc(found, func(a, b metric) int { return strings.Compare(a.program+a.name, b.program+b.name) })
	page.WriteString(`# Metrics

These are the metrics of our own. The programs also have the ones of every Kubernetes API server and controller: requests,
watch cache, etcd client, work queues, leader election, Go runtime. [Monitoring](../operating/monitoring.md) says which to
watch.

`)
	header(page, "program", "metric", "type", "labels", "meaning")
	for _, m := range found {
		row(page, m.program, "`"+m.name+"`", m.kind, m.labels, m.help)
	}
	return nil
}

// metricsOf returns the metrics that a file makes: metrics.NewXVec(&metrics.XOpts{...}, labels).
func metricsOf(path string) ([]metric, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		return nil, err
	}
	var found []metric
	ast.Inspect(file, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok || err != nil {
			return err == nil
		}
		function, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		of, ok := function.X.(*ast.Ident)
		kind, isNew := strings.CutPrefix(function.Sel.Name, "New")
		if !ok || of.Name != "metrics" || !isNew {
			return true
		}
		if kind == "Desc" {
			m, problem := metricOfDesc(call)
			if err = problem; err == nil {
				found = append(found, m)
			}
			return true
		}
		if kind == "LazyConstMetric" {
			return true
		}
		m := metric{kind: strings.ToLower(strings.TrimSuffix(kind, "Vec"))}
		parts := map[string]string{}
		ast.Inspect(call.Args[0], func(node ast.Node) bool {
			if pair, ok := node.(*ast.KeyValueExpr); ok {
				if text, ok := stringOf(pair.Value); ok {
					parts[pair.Key.(*ast.Ident).Name] = text
				}
			}
			return true
		})
		if parts["Name"] == "" || parts["Help"] == "" {
			err = errors.New("a metric without a literal name or help")
		}
		m.help = parts["Help"]
		for _, part := range []string{"Namespace", "Subsystem", "Name"} {
			if parts[part] != "" {
				m.name += "_" + parts[part]
			}
		}
		m.name = strings.TrimPrefix(m.name, "_")
		if len(call.Args) > 1 {
			m.labels = labelsOf(call.Args[1])
		}
		found = append(found, m)
		return true
	})
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return found, err
}

// metricOfDesc returns the metric that a collector describes: metrics.NewDesc(name, help, labels, ...). All of them are
// gauges.
func metricOfDesc(call *ast.CallExpr) (metric, error) {
	name, isName := stringOf(call.Args[0])
	help, isHelp := stringOf(call.Args[1])
	if !isName || !isHelp {
		return metric{}, errors.New("a metric without a literal name or help")
	}
	return metric{name: name, kind: "gauge", labels: labelsOf(call.Args[2]), help: help}, nil
}

// labelsOf returns the labels in a literal slice of strings.
func labelsOf(slice ast.Expr) string {
	var labels []string
	ast.Inspect(slice, func(node ast.Node) bool {
		if expression, ok := node.(ast.Expr); ok {
			if label, ok := stringOf(expression); ok {
				labels = append(labels, "`"+label+"`")
			}
		}
		return true
	})
	return strings.Join(labels, ", ")
}
