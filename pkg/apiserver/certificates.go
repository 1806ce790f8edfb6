// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"crypto/sha256"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apiserver/pkg/authentication/authenticator"
)

const (
	// certificateTTL is how long a client certificate that was verified is taken for good, unless it
	// expires before. It is that of tokens, which are verified by somebody else.
	certificateTTL = 10 * time.Second
	// maxCertificates is how many are remembered.
	maxCertificates = 1024
)

// certificates authenticates by client certificates as another authenticator does, but verifies each only
// once in a while: it costs more than most else about a small request.
type certificates struct {
	authenticator.Request
	verified *cache.LRUExpireCache
	now      func() time.Time
}

func rememberCertificates(a authenticator.Request) *certificates {
	return &certificates{a, cache.NewLRUExpireCache(maxCertificates), time.Now}
}

// AuthenticateRequest implements authenticator.Request.
func (c *certificates) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return c.Request.AuthenticateRequest(r)
	}
	hash := sha256.New()
	for _, certificate := range r.TLS.PeerCertificates {
		_, _ = hash.Write(certificate.Raw)
	}
	key := [sha256.Size]byte(hash.Sum(nil))
	if response, ok := c.verified.Get(key); ok {
		known := *response.(*authenticator.Response)
		return &known, true, nil
	}
	response, ok, err := c.Request.AuthenticateRequest(r)
	if err != nil || !ok {
		return response, ok, err
	}
	if ttl := min(certificateTTL, r.TLS.PeerCertificates[0].NotAfter.Sub(c.now())); ttl > 0 {
		known := *response
		c.verified.Add(key, &known, ttl)
	}
	return response, true, nil
}
