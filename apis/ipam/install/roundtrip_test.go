// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"encoding/json"
	"math/rand"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/fuzzer"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	apifuzzer "k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/apitesting/roundtrip"
	"k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/randfill"
)

// TestMain fills every kind more often than the default of 20 times, because half of all fields are left empty each
// time.
func TestMain(m *testing.M) {
	*roundtrip.FuzzIters = 500
	m.Run()
}

// TestRoundTrip converts hub objects to every version, to JSON, and back through defaulting.
func TestRoundTrip(t *testing.T) {
	roundtrip.RoundTripTestForAPIGroup(t, Install, fuzzer.Funcs)
}

// TestRoundTripExternal encodes objects of the served versions as JSON and protobuf, and decodes them.
func TestRoundTripExternal(t *testing.T) {
	scheme, codecs, filler := newFiller(t)
	roundtrip.RoundTripExternalTypes(t, scheme, codecs, filler, nil)
}

// TestRoundTripTemplate tests the type that no kind of this group contains.
func TestRoundTripTemplate(t *testing.T) {
	scheme, _, filler := newFiller(t)
	for range *roundtrip.FuzzIters {
		var want, got ipam.PrefixTemplateSpec
		var wire, decoded v1alpha1.PrefixTemplateSpec
		filler.Fill(&want)

		if err := scheme.Convert(&want, &wire, nil); err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(&wire)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &decoded); err != nil {
			t.Fatal(err)
		}
		v1alpha1.SetDefaults_PrefixSpec(&decoded.Spec)
		if err := scheme.Convert(&decoded, &got, nil); err != nil {
			t.Fatal(err)
		}
		if !equality.Semantic.DeepEqual(want, got) {
			t.Fatalf("%+v became %+v, by way of %s", want, got, data)
		}
	}
}

func newFiller(t *testing.T) (*runtime.Scheme, serializer.CodecFactory, *randfill.Filler) {
	scheme := runtime.NewScheme()
	Install(scheme)
	codecs := serializer.NewCodecFactory(scheme)
	seed := rand.Int63()
	t.Logf("seed %d", seed)
	funcs := apifuzzer.MergeFuzzerFuncs(metafuzzer.Funcs, fuzzer.Funcs)
	return scheme, codecs, apifuzzer.FuzzerFor(funcs, rand.NewSource(seed), codecs)
}
