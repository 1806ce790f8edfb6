// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package certificate

import (
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregatorfake "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/fake"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

// cluster is a fake of the parts of Kubernetes that the controller needs, with resource versions.
type cluster struct {
	testing.TB
	config     Config
	kube       *fake.Clientset
	aggregator *aggregatorfake.Clientset
	clock      *clocktesting.FakeClock

	mu      sync.Mutex
	version int
	// refuse is called before each write if it is set. The write fails with its error.
	refuse func(verb, name string) error
}

// newCluster returns a cluster with an APIService that has no bundle yet.
func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{
		TB: t, config: NewConfig(), kube: fake.NewClientset(), aggregator: aggregatorfake.NewClientset(),
		clock: clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)),
	}
	c.kube.PrependReactor("*", "*", c.react(c.kube.Tracker()))
	c.aggregator.PrependReactor("*", "*", c.react(c.aggregator.Tracker()))
	if _, err := c.aggregator.ApiregistrationV1().APIServices().Create(t.Context(), &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: APIService},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: "ipam.ironcore.dev", Version: "v1alpha1", GroupPriorityMinimum: 1000, VersionPriority: 15,
			Service: &apiregistrationv1.ServiceReference{Namespace: "ipam-system", Name: "ipam-apiserver"},
		},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// react sets a new resource version in each write, and rejects a write with an old one.
func (c *cluster) react(tracker clienttesting.ObjectTracker) clienttesting.ReactionFunc {
	next := clienttesting.ObjectReaction(tracker)
	// check returns an error if a write does not have the current resource version.
	check := func(action clienttesting.Action, name, version string) error {
		found, err := tracker.Get(action.GetResource(), action.GetNamespace(), name)
		if err != nil {
			return err
		}
		object, err := meta.Accessor(found)
		if err != nil {
			return err
		}
		if version != "" && version != object.GetResourceVersion() {
			return apierrors.NewConflict(action.GetResource().GroupResource(), name, errors.New("is of another version"))
		}
		return nil
	}
	return func(action clienttesting.Action) (bool, runtime.Object, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		name, object := "", metav1.Object(nil)
		switch a := action.(type) {
		case clienttesting.PatchActionImpl:
			var patch struct {
				Metadata map[string]any `json:"metadata"`
				Spec     map[string]any `json:"spec"`
			}
			if err := json.Unmarshal(a.Patch, &patch); err != nil {
				return true, nil, err
			}
			version, _ := patch.Metadata["resourceVersion"].(string)
			if err := check(action, a.Name, version); err != nil {
				return true, nil, err
			}
			c.version++
			patch.Metadata["resourceVersion"] = strconv.Itoa(c.version)
			a.Patch, _ = json.Marshal(patch)
			name, action = a.Name, a
		case clienttesting.UpdateActionImpl:
			object = a.Object.(metav1.Object)
			if err := check(action, object.GetName(), object.GetResourceVersion()); err != nil {
				return true, nil, err
			}
		case clienttesting.CreateActionImpl:
			object = a.Object.(metav1.Object)
		default:
			return false, nil, nil
		}
		if object != nil {
			name = object.GetName()
			c.version++
			object.SetResourceVersion(strconv.Itoa(c.version))
		}
		if c.refuse != nil {
			if err := c.refuse(action.GetVerb(), name); err != nil {
				return true, nil, err
			}
		}
		return next(action)
	}
}

// controller returns a new controller of the cluster, without any state.
func (c *cluster) controller() *Controller {
	controller := New(c.config, c.kube, c.aggregator)
	controller.clock = c.clock
	return controller
}

// askedClock calls a function whenever the time is read.
type askedClock struct {
	clock.WithTicker
	asked func()
}

func (c askedClock) Now() time.Time {
	c.asked()
	return c.WithTicker.Now()
}

// state is the state of a cluster.
type state struct {
	secret, caSecret *corev1.Secret
	service          *apiregistrationv1.APIService
}

// state returns the current state. Missing objects are nil.
func (c *cluster) state() state {
	c.Helper()
	var s state
	for name, to := range map[string]**corev1.Secret{c.config.Secret: &s.secret, c.config.CASecret: &s.caSecret} {
		secret, err := c.kube.CoreV1().Secrets(c.config.Namespace).Get(c.Context(), name, metav1.GetOptions{})
		if err == nil {
			*to = secret
		} else if !apierrors.IsNotFound(err) {
			c.Fatal(err)
		}
	}
	service, err := c.aggregator.ApiregistrationV1().APIServices().Get(c.Context(), APIService, metav1.GetOptions{})
	if err == nil {
		s.service = service
	} else if !apierrors.IsNotFound(err) {
		c.Fatal(err)
	}
	return s
}

// changeSecret modifies a Secret.
func (c *cluster) changeSecret(name string, change func(*corev1.Secret)) {
	c.Helper()
	secrets := c.kube.CoreV1().Secrets(c.config.Namespace)
	secret, err := secrets.Get(c.Context(), name, metav1.GetOptions{})
	if err != nil {
		c.Fatal(err)
	}
	secret = secret.DeepCopy()
	change(secret)
	if _, err := secrets.Update(c.Context(), secret, metav1.UpdateOptions{}); err != nil {
		c.Fatal(err)
	}
}

// deleteSecret deletes a Secret.
func (c *cluster) deleteSecret(name string) {
	c.Helper()
	if err := c.kube.CoreV1().Secrets(c.config.Namespace).Delete(c.Context(), name, metav1.DeleteOptions{}); err != nil {
		c.Fatal(err)
	}
}

// changeService modifies the APIService.
func (c *cluster) changeService(change func(*apiregistrationv1.APIService)) {
	c.Helper()
	services := c.aggregator.ApiregistrationV1().APIServices()
	service, err := services.Get(c.Context(), APIService, metav1.GetOptions{})
	if err != nil {
		c.Fatal(err)
	}
	service = service.DeepCopy()
	change(service)
	if _, err := services.Update(c.Context(), service, metav1.UpdateOptions{}); err != nil {
		c.Fatal(err)
	}
}

// deleteService deletes the APIService.
func (c *cluster) deleteService() {
	c.Helper()
	if err := c.aggregator.ApiregistrationV1().APIServices().Delete(c.Context(), APIService, metav1.DeleteOptions{}); err != nil {
		c.Fatal(err)
	}
}
