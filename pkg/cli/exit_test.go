// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"
)

// TestCodeOf shows the exit code of each error that a command can end with, also if it is wrapped, or one of several.
func TestCodeOf(t *testing.T) {
	t.Parallel()
	of := schema.GroupResource{Group: "ipam.ironcore.dev", Resource: "prefixes"}
	status := func(code int32) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Message: "x"}}
	}
	for want, errs := range map[ExitCode][]error{
		ExitDone:      {nil},
		ExitError:     {errors.New("x"), os.ErrPermission, apierrors.NewInternalError(errors.New("x")), status(http.StatusTeapot)},
		ExitUsage:     {exitf(ExitUsage, "x")},
		ExitForbidden: {apierrors.NewForbidden(of, "x", errors.New("x")), apierrors.NewUnauthorized("x"), status(http.StatusForbidden)},
		ExitNotFound:  {apierrors.NewNotFound(of, "x"), exitf(ExitNotFound, "x")},
		ExitConflict:  {apierrors.NewConflict(of, "x", errors.New("x")), apierrors.NewAlreadyExists(of, "x"), exitf(ExitConflict, "x")},
		ExitInvalid:   {apierrors.NewInvalid(schema.GroupKind{}, "x", nil), apierrors.NewBadRequest("x"), apierrors.NewRequestEntityTooLargeError("x"), exitf(ExitInvalid, "x")},
		ExitNoRoom:    {exitf(ExitNoRoom, "x")},
		ExitUnavailable: {apierrors.NewTimeoutError("x", 1), apierrors.NewServerTimeout(of, "get", 1), apierrors.NewServiceUnavailable("x"), apierrors.NewTooManyRequests("x", 1), status(http.StatusBadGateway),
			context.Canceled, context.DeadlineExceeded, wait.ErrorInterrupted(nil), &url.Error{Op: "Get", URL: "https://x", Err: errors.New("x")}, &net.OpError{Op: "dial", Err: errors.New("x")}},
	} {
		for _, err := range errs {
			tries := []error{err}
			if err != nil {
				tries = append(tries, fmt.Errorf("wrapped: %w", err), errors.Join(err, errors.New("another")))
			}
			for _, err := range tries {
				if got := codeOf(err); got != want {
					t.Errorf("%v (%T): %d instead of %d", err, err, got, want)
				}
			}
		}
	}
	if got := codeOf(clientcmd.ErrEmptyConfig); got != ExitUsage {
		t.Errorf("no kubeconfig: %d", got)
	}
	// A code that a command has chosen counts, whatever it wraps.
	if got := codeOf(exitf(ExitUsage, "x: %w", apierrors.NewForbidden(of, "x", nil))); got != ExitUsage {
		t.Errorf("%d", got)
	}
}
