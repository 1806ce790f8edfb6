// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package addon

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/ready/readytest"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// served returns an object as the server sends it.
func served(t testing.TB, obj runtime.Object) *unstructured.Unstructured {
	t.Helper()
	data, err := runtime.Encode(apiserver.Codecs.LegacyCodec(schema.GroupVersion(v1alpha1.GroupVersion)), obj)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	return u
}

// everyState calls check with an object in every state, as the server sends it.
func everyState(t *testing.T, check func(name string, obj *unstructured.Unstructured)) {
	t.Helper()
	count := 0
	for name, prefix := range readytest.Prefixes() {
		check(name, served(t, prefix))
		count++
	}
	for name, allocation := range readytest.Allocations() {
		check(name, served(t, allocation))
		count++
	}
	if count < 1000 {
		t.Errorf("only %d states", count)
	}
}

// conditionOf returns the status and the message of a condition, which are empty if there is none.
func conditionOf(obj *unstructured.Unstructured, conditionType string) (is, message string) {
	conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
	for _, condition := range conditions {
		if c := condition.(map[string]any); c["type"] == conditionType {
			return fmt.Sprint(c["status"]), fmt.Sprint(c["message"])
		}
	}
	return "", ""
}

// TestKstatus computes what kstatus says of objects in every state. Flux and Helm wait by it.
func TestKstatus(t *testing.T) {
	seen := map[status.Status]int{}
	everyState(t, func(name string, obj *unstructured.Unstructured) {
		phase, _, _ := unstructured.NestedString(obj.Object, "status", "phase")
		observed, _, _ := unstructured.NestedInt64(obj.Object, "status", "observedGeneration")
		stalled, _ := conditionOf(obj, v1alpha1.ConditionStalled)
		want := status.InProgressStatus
		switch {
		case obj.GetDeletionTimestamp() != nil:
			want = status.TerminatingStatus
		case phase == "Allocated":
			want = status.CurrentStatus
		case observed != 0 && observed != obj.GetGeneration():
			// The conditions are about an earlier spec.
		case stalled == "True":
			want = status.FailedStatus
		}
		result, err := status.Compute(obj)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if result.Status != want {
			t.Errorf("%s: kstatus says %s (%s), not %s", name, result.Status, result.Message, want)
		}
		if _, message := conditionOf(obj, v1alpha1.ConditionReady); want == status.FailedStatus && result.Message != message {
			t.Errorf("%s: kstatus says %q, and Ready %q", name, result.Message, message)
		}
		seen[want]++
	})
	// A PrefixPolicy has no condition until a controller has written it.
	if result, err := status.Compute(served(t, harness.Policy("rules", nil))); err != nil || result.Status != status.CurrentStatus {
		t.Errorf("a new policy: %v, %v", result, err)
	}
	for _, s := range []status.Status{status.CurrentStatus, status.FailedStatus, status.InProgressStatus, status.TerminatingStatus} {
		if seen[s] == 0 {
			t.Errorf("no object is %s", s)
		}
	}
}

// toLua returns a value that was decoded from JSON as a value of Lua.
func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, v := range value {
			table.RawSetString(key, toLua(state, v))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, v := range value {
			table.Append(toLua(state, v))
		}
		return table
	case string:
		return lua.LString(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case bool:
		return lua.LBool(value)
	}
	return lua.LNil
}

// health runs the health check of Argo CD as Argo CD does: with the object in the global obj.
func health(t testing.TB, script *lua.FunctionProto, obj *unstructured.Unstructured) (is, message string) {
	t.Helper()
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			t.Fatal(err)
		}
	}
	state.SetGlobal("obj", toLua(state, obj.Object))
	state.Push(state.NewFunctionFromProto(script))
	if err := state.PCall(0, 1, nil); err != nil {
		t.Fatal(err)
	}
	result, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		t.Fatalf("it returns %v", state.Get(-1))
	}
	return lua.LVAsString(result.RawGetString("status")), lua.LVAsString(result.RawGetString("message"))
}

// TestArgoCD runs the health check of config/gitops on objects in every state. Argo CD does not run it on an object that
// is being deleted.
func TestArgoCD(t *testing.T) {
	source, err := os.Open(filepath.Join(kube.Root(), "config/gitops/argocd-health.lua"))
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	chunk, err := parse.Parse(source, source.Name())
	if err != nil {
		t.Fatal(err)
	}
	script, err := lua.Compile(chunk, source.Name())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	everyState(t, func(name string, obj *unstructured.Unstructured) {
		ready, message := conditionOf(obj, v1alpha1.ConditionReady)
		stalled, _ := conditionOf(obj, v1alpha1.ConditionStalled)
		want := "Progressing"
		switch {
		case stalled == "True":
			want = "Degraded"
		case ready == "True":
			want = "Healthy"
		}
		if is, why := health(t, script, obj); is != want || why != message {
			t.Errorf("%s: Argo CD says %s (%s), not %s (%s)", name, is, why, want, message)
		}
		seen[want]++
	})
	if len(seen) != 3 {
		t.Errorf("only %v", seen)
	}
	// A PrefixPolicy has no condition until a controller has written it.
	policy := harness.Policy("rules", nil)
	if is, _ := health(t, script, served(t, policy)); is != "Progressing" {
		t.Errorf("a new policy is %s", is)
	}
	policy.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Message: "applies"}}
	if is, why := health(t, script, served(t, policy)); is != "Healthy" || why != "applies" {
		t.Errorf("a policy that applies is %s (%s)", is, why)
	}
	// An object of a server without the conditions.
	if is, _ := health(t, script, &unstructured.Unstructured{Object: map[string]any{}}); is != "Progressing" {
		t.Errorf("without a status it is %s", is)
	}
}
