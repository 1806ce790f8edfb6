// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package certificate keeps the serving certificate of the API server, and the authority that signs
// it, for a cluster without cert-manager; and, if it is told to, those of etcd in the same way.
//
// For the API server there are three objects. The Secret of the authority has its certificate and key, and the
// certificates of earlier ones that still have to be trusted. The APIService has all of these in
// spec.caBundle. The Secret of the API server has the serving certificate with its key, and the same
// bundle. They are always brought up to date in this order, so that nothing is in use before it is
// trusted:
//
//   - A new authority is made when a third of the time of the present one is left, or there is none that
//     is any good. The present one becomes an old one, and its key is gone.
//   - The bundle is published. Anything else that is in its place is replaced.
//   - A serving certificate that an old authority signed is replaced by a new one once the bundle has
//     been in place for a while; one that is of no use at once; one that is good when a third of its
//     time is left.
//   - An old authority is forgotten when it has expired, or nobody can be using what it signed.
//
// For etcd there is no APIService: who trusts the authority reads it from the Secret of its own
// certificate. Both etcd and its clients do so only when they start. So before there is a new authority
// the certificates are issued anew by the old one, and the new one signs when these are due: that is how
// long there is to restart everybody.
package certificate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/pki"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	kerrors "k8s.io/apimachinery/pkg/util/errors"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	apiregistrationinformers "k8s.io/kube-aggregator/pkg/client/informers/externalversions/apiregistration/v1"
	"k8s.io/utils/clock"
)

// APIService is the name of the APIService.
var APIService = v1alpha1.GroupVersion.Version + "." + v1alpha1.GroupVersion.Group

const (
	// maxWait is the longest time between two looks, for a clock that was set.
	maxWait = time.Hour
	// maxRetry is the longest time after a look that failed.
	maxRetry = time.Minute
)

var errMissing = errors.New("is missing")

// Controller keeps the certificates.
type Controller struct {
	config     Config
	kube       kubernetes.Interface
	aggregator clientset.Interface
	clock      clock.WithTicker

	chains []*chain

	// wake has something in it when there may be something to do.
	wake chan struct{}
}

// New returns a controller, which works when it is run.
func New(config Config, kube kubernetes.Interface, aggregator clientset.Interface) *Controller {
	return &Controller{config: config, kube: kube, aggregator: aggregator, clock: clock.RealClock{}, chains: config.chains(), wake: make(chan struct{}, 1)}
}

// Run works until the context ends. It needs nothing but Kubernetes, least of all the API whose
// certificate it keeps.
func (c *Controller) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx).WithName("certificate")
	ctx = klog.NewContext(ctx, logger)

	var informers sync.WaitGroup
	defer informers.Wait()
	watched := []cache.SharedIndexInformer{apiregistrationinformers.NewFilteredAPIServiceInformer(c.aggregator, 0, cache.Indexers{}, only(APIService))}
	for _, chain := range c.chains {
		for _, name := range chain.secrets() {
			watched = append(watched, coreinformers.NewFilteredSecretInformer(c.kube, c.config.Namespace, 0, cache.Indexers{}, only(name)))
		}
	}
	for _, informer := range watched {
		look := func() {
			select {
			case c.wake <- struct{}{}:
			default:
			}
		}
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { look() },
			UpdateFunc: func(any, any) { look() },
			DeleteFunc: func(any) { look() },
		}); err != nil {
			return err
		}
		informers.Go(func() { informer.RunWithContext(ctx) })
	}

	// Someone else who keeps the same objects in another way must not make for a race.
	limiter := flowcontrol.NewTokenBucketRateLimiter(1, 10)
	defer limiter.Stop()
	retry := time.Second
	for limiter.Wait(ctx) == nil {
		wait := maxWait
		next, err := c.sync(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			wait, retry = max(0, min(maxWait, next.Sub(c.clock.Now()))), time.Second
		case isConflict(err):
			logger.V(2).Info("Somebody else was faster", "err", err)
			wait, retry = retry, min(2*retry, maxRetry)
		default:
			logger.Error(err, "Cannot keep the certificates")
			wait, retry = retry, min(2*retry, maxRetry)
		}
		timer := c.clock.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-timer.C():
		}
		timer.Stop()
	}
	return nil
}

// isConflict tells whether somebody else was faster, and nothing else is wrong.
func isConflict(err error) bool {
	return kerrors.FilterOut(err, apierrors.IsConflict, apierrors.IsAlreadyExists) == nil
}

func only(name string) func(*metav1.ListOptions) {
	return func(options *metav1.ListOptions) {
		options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	}
}

// sync brings everything up to date, and returns when to look again.
func (c *Controller) sync(ctx context.Context) (time.Time, error) {
	var next []time.Time
	var errs []error
	for _, chain := range c.chains {
		// One that cannot be kept does not hold up another one.
		t, err := c.syncChain(ctx, chain)
		if err != nil {
			errs = append(errs, err)
		}
		next = append(next, t)
	}
	return earliest(next...), kerrors.NewAggregate(errs)
}

// syncChain brings a chain up to date.
//
// The informers only tell when to look. What is looked at is read from the server, for which there is
// enough time, and in the opposite of the order in which it is written. So whoever writes the
// APIService or a certificate does so by an authority that is at least as new as that of the one who
// wrote it last, or else has a conflict, and two that do this at a time do no harm.
func (c *Controller) syncChain(ctx context.Context, chain *chain) (time.Time, error) {
	secrets := make([]*corev1.Secret, len(chain.leaves))
	for i, l := range chain.leaves {
		var err error
		if secrets[i], err = c.getSecret(ctx, l.secret); err != nil {
			return time.Time{}, err
		}
	}
	var service *apiregistrationv1.APIService
	if chain.published {
		var err error
		service, err = c.aggregator.ApiregistrationV1().APIServices().Get(ctx, APIService, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			service = nil
		} else if err != nil {
			return time.Time{}, err
		}
	}
	caSecret, err := c.getSecret(ctx, chain.caSecret)
	if err != nil {
		return time.Time{}, err
	}

	now := c.clock.Now()
	var leaves []*kept
	for i, l := range chain.leaves {
		leaves = append(leaves, l.keep(secrets[i], now))
	}
	authority, err := c.keepAuthority(ctx, chain, caSecret, leaves, service, now)
	if err != nil {
		return time.Time{}, fmt.Errorf("authority: %w", err)
	}
	bundle, err := authority.bundle()
	if err != nil {
		return time.Time{}, err
	}
	inPlace := true
	if chain.published {
		if inPlace, err = c.publish(ctx, service, bundle); err != nil {
			return time.Time{}, fmt.Errorf("APIService: %w", err)
		}
	}
	for _, l := range leaves {
		inPlace = inPlace && l.object != nil && bytes.Equal(l.object.Data[caKey], bundle)
	}
	if !inPlace || !bytes.Equal(chain.bundle, bundle) {
		chain.bundle, chain.placed = bundle, now
	}

	expiration.WithLabelValues(chain.metric).Set(float64(authority.Cert.NotAfter.Unix()))
	next := due(authority.Cert)
	if !now.Before(next) {
		// What it signed has to be renewed first.
		next = now.Add(time.Second)
	}
	for _, l := range leaves {
		t, err := c.keepLeaf(ctx, chain, l, authority, bundle, now)
		if err != nil {
			return time.Time{}, fmt.Errorf("certificate: %w", err)
		}
		next = earliest(next, t)
		if used := inUse(l.Cert); len(authority.old) > 0 && now.Before(used) {
			next = earliest(next, used)
		}
	}
	for _, old := range authority.old {
		next = earliest(next, old.NotAfter)
	}
	return next, nil
}

// keepLeaf has a leaf signed again if it has to be, and returns when it has to be looked at again.
func (c *Controller) keepLeaf(ctx context.Context, chain *chain, l *kept, a *authority, bundle []byte, now time.Time) (time.Time, error) {
	current, reason := false, l.reason
	if reason == nil {
		current, reason = a.signed(l, now)
	}
	var next time.Time
	switch {
	case reason != nil:
	case current:
		if next = due(l.Cert); !now.Before(next) {
			reason = fmt.Errorf("ends at %s", l.Cert.NotAfter)
		} else if l.renewFirst(chain, a, now) {
			reason = errors.New("has to last until a new authority has been read by all")
		}
	default:
		settled := chain.placed.Add(c.config.settleTime())
		if t := due(l.Cert); chain.atRestart && settled.Before(t) {
			settled = t
		}
		if next = earliest(settled, l.Cert.NotAfter); !now.Before(next) {
			reason = errors.New("is signed by an old authority")
		}
	}
	if reason != nil {
		if err := l.issue(a, c.config.Lifetime, now); err != nil {
			return time.Time{}, err
		}
		next = due(l.Cert)
		klog.FromContext(ctx).Info("Issue a certificate", "secret", klog.KRef(c.config.Namespace, l.secret),
			"because", reason.Error(), "until", l.Cert.NotAfter, "authority", a.Cert.Subject.CommonName)
	}
	expiration.WithLabelValues(l.metric).Set(float64(l.Cert.NotAfter.Unix()))
	return next, c.writeSecret(ctx, l.object, l.secret, map[string][]byte{
		corev1.TLSCertKey: l.CertPEM, corev1.TLSPrivateKeyKey: l.KeyPEM, caKey: bundle,
	})
}

func earliest(times ...time.Time) time.Time { return slices.MinFunc(times, time.Time.Compare) }

// keepAuthority returns the authority, after it was replaced if it has to be, and old ones were
// forgotten.
func (c *Controller) keepAuthority(ctx context.Context, chain *chain, secret *corev1.Secret, leaves []*kept,
	service *apiregistrationv1.APIService, now time.Time) (*authority, error) {
	a, reason := parseAuthority(secret, now)
	if reason == nil && !now.Before(due(a.Cert)) && !slices.ContainsFunc(leaves, func(l *kept) bool { return l.renewFirst(chain, a, now) }) {
		reason = fmt.Errorf("ends at %s", a.Cert.NotAfter)
		a.old = append(a.old, a.Cert)
	}
	// One that was lost, or replaced by hand, may have signed what is in use.
	var bundles [][]byte
	if service != nil {
		bundles = append(bundles, service.Spec.CABundle)
	}
	if !chain.published {
		for _, l := range leaves {
			if l.object != nil {
				bundles = append(bundles, l.object.Data[caKey])
			}
		}
	}
	for _, bundle := range bundles {
		trusted, _ := certutil.ParseCertsPEM(bundle)
		for _, ca := range trusted {
			if slices.ContainsFunc(leaves, func(l *kept) bool { return l.Pair != nil && l.verify(ca, now) == nil }) {
				a.old = append(a.old, ca)
			}
		}
	}
	if reason != nil {
		var err error
		if a.Pair, err = pki.NewCA(chain.caName, now, c.config.CALifetime); err != nil {
			return nil, err
		}
		klog.FromContext(ctx).Info("Make an authority", "secret", klog.KRef(c.config.Namespace, chain.caSecret),
			"because", reason.Error(), "until", a.Cert.NotAfter, "authority", a.Cert.Subject.CommonName)
	}
	a.prune(leaves, now)

	data := map[string][]byte{corev1.TLSCertKey: a.CertPEM, corev1.TLSPrivateKeyKey: a.KeyPEM}
	old, err := certutil.EncodeCertificates(a.old...)
	if err != nil {
		return nil, err
	}
	data[oldKey] = old
	return a, c.writeSecret(ctx, secret, chain.caSecret, data)
}

// publish puts the bundle into the APIService, and tells whether it was there already, which it is
// also if nobody looks at it.
func (c *Controller) publish(ctx context.Context, service *apiregistrationv1.APIService, bundle []byte) (bool, error) {
	logger := klog.FromContext(ctx)
	switch {
	case service == nil:
		logger.V(2).Info("There is no APIService to publish the authority in", "apiService", APIService)
		return true, nil
	case service.Spec.Service == nil || service.Spec.InsecureSkipTLSVerify:
		// Neither may have a bundle.
		logger.Info("The APIService does not verify certificates", "apiService", APIService)
		return true, nil
	case bytes.Equal(service.Spec.CABundle, bundle):
		return true, nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": service.ResourceVersion},
		"spec":     map[string]any{"caBundle": bundle},
	})
	if err != nil {
		return false, err
	}
	logger.Info("Publish the authority", "apiService", APIService)
	_, err = c.aggregator.ApiregistrationV1().APIServices().Patch(ctx, APIService, types.MergePatchType, patch, metav1.PatchOptions{})
	return false, err
}

// getSecret returns nil if there is no Secret of the name.
func (c *Controller) getSecret(ctx context.Context, name string) (*corev1.Secret, error) {
	secret, err := c.kube.CoreV1().Secrets(c.config.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return secret, err
}

// writeSecret puts data into a Secret, nil if it is missing, unless it is there already.
func (c *Controller) writeSecret(ctx context.Context, secret *corev1.Secret, name string, data map[string][]byte) error {
	secrets := c.kube.CoreV1().Secrets(c.config.Namespace)
	if secret == nil {
		_, err := secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: c.config.Namespace, Name: name},
			Type:       corev1.SecretTypeTLS,
			Data:       data,
		}, metav1.CreateOptions{})
		return err
	}
	changed := secret.DeepCopy()
	if changed.Data == nil {
		changed.Data = map[string][]byte{}
	}
	maps.Copy(changed.Data, data)
	if maps.EqualFunc(changed.Data, secret.Data, bytes.Equal) {
		return nil
	}
	_, err := secrets.Update(ctx, changed, metav1.UpdateOptions{})
	return err
}
