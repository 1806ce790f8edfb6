// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package certificate issues and renews the serving certificate of the API server and the certificate authority
// (CA) that signs it, for clusters without cert-manager. It can do the same for etcd.
//
// For the API server there are three objects. The Secret of the CA holds the CA certificate and key, and the
// certificates of earlier CAs that must still be trusted. The APIService holds all CA certificates (the bundle) in
// spec.caBundle. The Secret of the API server holds the serving certificate, its key and the bundle. The
// controller updates them in the following order, so that no certificate is used before it is trusted:
//
//   - It creates a new CA when a third of the lifetime of the current CA is left, or if there is no valid CA. The
//     current CA becomes an old one and its key is deleted.
//   - It publishes the bundle. This overwrites anything else in spec.caBundle.
//   - It replaces the serving certificate: at once if it is not valid, when a third of its lifetime is left, or,
//     if an old CA signed it, some time after the bundle was published.
//   - It removes an old CA when it has expired, or when no certificate that it signed can still be in use.
//
// For etcd there is no APIService. etcd and its clients read the bundle from the Secret of their own certificate,
// and only when they start. So the current CA first renews all certificates. Then the new CA is created, and it
// signs only when these certificates are due. All processes must be restarted within that time.
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

// APIService is the name of the APIService object, version.group.
var APIService = v1alpha1.GroupVersion.Version + "." + v1alpha1.GroupVersion.Group

const (
	// maxWait is the maximum time between two checks. It limits the effect of a change of the system clock.
	maxWait = time.Hour
	// maxRetry is the maximum delay after a failed check.
	maxRetry = time.Minute
)

var errMissing = errors.New("is missing")

// Controller issues and renews the certificates. Create it with New.
type Controller struct {
	config     Config
	kube       kubernetes.Interface
	aggregator clientset.Interface
	clock      clock.WithTicker

	chains []*chain

	// wake is not empty if an object may have changed.
	wake chan struct{}
}

// New returns a controller for the given configuration. Call Run to start it.
func New(config Config, kube kubernetes.Interface, aggregator clientset.Interface) *Controller {
	return &Controller{config: config, kube: kube, aggregator: aggregator, clock: clock.RealClock{}, chains: config.chains(), wake: make(chan struct{}, 1)}
}

// Run runs the controller until the context ends. It depends on the Kubernetes API server only, not on the
// aggregated API whose certificate it maintains.
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

	// The rate limit prevents a busy loop if somebody else writes different values to the same objects.
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
			logger.V(2).Info("Another writer was faster, trying again", "err", err)
			wait, retry = retry, min(2*retry, maxRetry)
		default:
			logger.Error(err, "Cannot maintain the certificates")
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

// isConflict reports whether the error consists only of conflicts with another writer.
func isConflict(err error) bool {
	return kerrors.FilterOut(err, apierrors.IsConflict, apierrors.IsAlreadyExists) == nil
}

func only(name string) func(*metav1.ListOptions) {
	return func(options *metav1.ListOptions) {
		options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	}
}

// sync updates all chains and returns the time of the next check.
func (c *Controller) sync(ctx context.Context) (time.Time, error) {
	var next []time.Time
	var errs []error
	for _, chain := range c.chains {
		// An error in one chain does not block the others.
		t, err := c.syncChain(ctx, chain)
		if err != nil {
			errs = append(errs, err)
		}
		next = append(next, t)
	}
	return earliest(next...), kerrors.NewAggregate(errs)
}

// syncChain updates the objects of one chain and returns the time of the next check.
//
// The informers only trigger the check. The objects are read from the API server, in the reverse of the order in
// which they are written. So a writer of the APIService or of a certificate uses a CA at least as new as that of
// the previous writer, or it gets a conflict. Two controllers at the same time do no harm.
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
		return time.Time{}, fmt.Errorf("CA: %w", err)
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
		// The certificates that the CA signed must be renewed first.
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

// keepLeaf renews a leaf certificate if necessary and returns the time of the next check.
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
			reason = fmt.Errorf("expires at %s", l.Cert.NotAfter)
		} else if l.renewFirst(chain, a, now) {
			reason = errors.New("must outlast the replacement of its CA")
		}
	default:
		settled := chain.placed.Add(c.config.settleTime())
		if t := due(l.Cert); chain.atRestart && settled.Before(t) {
			settled = t
		}
		if next = earliest(settled, l.Cert.NotAfter); !now.Before(next) {
			reason = errors.New("is signed by an old CA")
		}
	}
	if reason != nil {
		if err := l.issue(a, c.config.Lifetime, now); err != nil {
			return time.Time{}, err
		}
		next = due(l.Cert)
		klog.FromContext(ctx).Info("Issuing a certificate", "secret", klog.KRef(c.config.Namespace, l.secret),
			"reason", reason.Error(), "notAfter", l.Cert.NotAfter, "ca", a.Cert.Subject.CommonName)
	}
	expiration.WithLabelValues(l.metric).Set(float64(l.Cert.NotAfter.Unix()))
	return next, c.writeSecret(ctx, l.object, l.secret, map[string][]byte{
		corev1.TLSCertKey: l.CertPEM, corev1.TLSPrivateKeyKey: l.KeyPEM, caKey: bundle,
	})
}

func earliest(times ...time.Time) time.Time { return slices.MinFunc(times, time.Time.Compare) }

// keepAuthority returns the CA. It replaces the CA if necessary and removes old CAs that are not needed any more.
func (c *Controller) keepAuthority(ctx context.Context, chain *chain, secret *corev1.Secret, leaves []*kept,
	service *apiregistrationv1.APIService, now time.Time) (*authority, error) {
	a, reason := parseAuthority(secret, now)
	if reason == nil && !now.Before(due(a.Cert)) && !slices.ContainsFunc(leaves, func(l *kept) bool { return l.renewFirst(chain, a, now) }) {
		reason = fmt.Errorf("expires at %s", a.Cert.NotAfter)
		a.old = append(a.old, a.Cert)
	}
	// A CA that was lost or replaced by hand may have signed certificates that are in use. Keep it in the bundle.
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
		klog.FromContext(ctx).Info("Creating a CA", "secret", klog.KRef(c.config.Namespace, chain.caSecret),
			"reason", reason.Error(), "notAfter", a.Cert.NotAfter, "ca", a.Cert.Subject.CommonName)
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

// publish writes the bundle to the APIService. It reports whether the bundle was already there. That is also true
// if there is no APIService or if it does not verify certificates.
func (c *Controller) publish(ctx context.Context, service *apiregistrationv1.APIService, bundle []byte) (bool, error) {
	logger := klog.FromContext(ctx)
	switch {
	case service == nil:
		logger.V(2).Info("There is no APIService to publish the CA in", "apiService", APIService)
		return true, nil
	case service.Spec.Service == nil || service.Spec.InsecureSkipTLSVerify:
		// The API rejects a bundle in both cases.
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
	logger.Info("Publishing the CA", "apiService", APIService)
	_, err = c.aggregator.ApiregistrationV1().APIServices().Patch(ctx, APIService, types.MergePatchType, patch, metav1.PatchOptions{})
	return false, err
}

// getSecret returns the Secret with that name, or nil if there is none.
func (c *Controller) getSecret(ctx context.Context, name string) (*corev1.Secret, error) {
	secret, err := c.kube.CoreV1().Secrets(c.config.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return secret, err
}

// writeSecret writes data to a Secret. It creates the Secret if secret is nil, and does nothing if the data is
// already there.
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
