// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
)

// owner is an object that controls a Prefix, directly or through others.
type owner struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
}

// ownersInWords returns owners for a person, the top one first.
func ownersInWords(owners []owner) string {
	var words []string
	for _, o := range owners {
		words = append([]string{o.Kind + "/" + o.Name}, words...)
	}
	return orNone(strings.Join(words, " > "))
}

// maxOwners is the number of owners that are looked up, in case objects own each other.
const maxOwners = 10

// owners returns the objects that own a Prefix, from the next one to the top one. At an object that cannot be read, it
// ends: only its own owner is unknown.
func (s *session) owners(ctx context.Context, p *v1alpha1.Prefix) ([]owner, error) {
	var found []owner
	var object metav1.Object = p
	var client metadata.Interface
	var mapper meta.RESTMapper
	for len(found) < maxOwners {
		ref := ownerOf(object)
		if ref == nil {
			return found, nil
		}
		found = append(found, owner{ref.APIVersion, ref.Kind, ref.Name})
		if client == nil {
			var err error
			if client, err = metadata.NewForConfig(s.clients.rest); err != nil {
				return nil, err
			}
			if mapper, err = s.config.ToRESTMapper(); err != nil {
				return nil, err
			}
		}
		gv, err := schema.ParseGroupVersion(ref.APIVersion)
		if err != nil {
			return found, nil
		}
		mapping, err := mapper.RESTMapping(gv.WithKind(ref.Kind).GroupKind(), gv.Version)
		if err != nil {
			return found, nil
		}
		namespace := ""
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			namespace = p.Namespace
		}
		next, err := client.Resource(mapping.Resource).Namespace(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsForbidden(err):
			s.denied = true
			s.say("You may not read %s %s, so who owns it is missing.", mapping.Resource.Resource, ref.Name)
			return found, nil
		case apierrors.IsNotFound(err):
			return found, nil
		case err != nil:
			return nil, err
		}
		object = next
	}
	return found, nil
}

// ownerOf returns the owner reference of the controller of an object, or else its only owner reference.
func ownerOf(object metav1.Object) *metav1.OwnerReference {
	if ref := metav1.GetControllerOf(object); ref != nil {
		return ref
	}
	if refs := object.GetOwnerReferences(); len(refs) == 1 {
		return &refs[0]
	}
	return nil
}
