// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package openapi tests the published OpenAPI document.
package openapi

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/openapi"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

const modelPrefix = "dev.ironcore.ipam.v1alpha1."

// TestDescriptions requires a description of every model and every field of the version, which kubectl explain
// shows.
func TestDescriptions(t *testing.T) {
	described := map[string][]string{}
	for name, definition := range openapi.GetOpenAPIDefinitions(reference) {
		model, ours := strings.CutPrefix(name, modelPrefix)
		if !ours {
			continue
		}
		if definition.Schema.Description == "" {
			t.Errorf("%s has no description", model)
		}
		for property, schema := range definition.Schema.Properties {
			if strings.TrimSpace(schema.Description) == "" {
				t.Errorf("%s.%s has no description", model, property)
			}
		}
		described[model] = slices.Sorted(maps.Keys(definition.Schema.Properties))
	}

	// Every type that is reachable from a kind has a model with all of its fields.
	scheme := runtime.NewScheme()
	if err := v1alpha1.Install(scheme); err != nil {
		t.Fatal(err)
	}
	types := map[string]reflect.Type{}
	collect(reflect.TypeFor[v1alpha1.PrefixTemplateSpec](), types)
	for _, kind := range scheme.KnownTypes(schema.GroupVersion(v1alpha1.GroupVersion)) {
		collect(kind, types)
	}
	for name, typ := range types {
		fields := jsonFields(typ)
		slices.Sort(fields)
		if !slices.Equal(described[name], fields) {
			t.Errorf("the model of %s has the fields %v, the type %v", name, described[name], fields)
		}
	}
	if len(types) == 0 || len(types) != len(described) {
		t.Errorf("got %d models of %d types", len(described), len(types))
	}
}

func reference(path string) spec.Ref { return spec.MustCreateRef("#/definitions/" + path) }

// collect adds a struct type of our version, and all types that it contains.
func collect(typ reflect.Type, types map[string]reflect.Type) {
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		collect(typ.Elem(), types)
		return
	case reflect.Struct:
	default:
		return
	}
	if typ.PkgPath() != reflect.TypeFor[v1alpha1.Prefix]().PkgPath() || types[typ.Name()] != nil {
		return
	}
	types[typ.Name()] = typ
	for i := range typ.NumField() {
		collect(typ.Field(i).Type, types)
	}
}

// jsonFields returns the JSON names of the fields of an object. Those of TypeMeta count as its own.
func jsonFields(typ reflect.Type) []string {
	var fields []string
	for i := range typ.NumField() {
		field := typ.Field(i)
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
			fields = append(fields, name)
		} else {
			fields = append(fields, jsonFields(field.Type)...)
		}
	}
	return fields
}
