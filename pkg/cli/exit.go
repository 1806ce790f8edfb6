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

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"
)

// ExitCode is the exit code of a command. Scripts depend on the codes, so they do not change.
type ExitCode int

const (
	// ExitDone means that the command did what it was asked for.
	ExitDone ExitCode = iota
	// ExitError is an error that has no other code.
	ExitError
	// ExitUsage means that arguments or flags are wrong.
	ExitUsage
	// ExitForbidden means that the user may not do this. If only a part is forbidden, the rest was done or printed.
	ExitForbidden
	// ExitNotFound means that an object does not exist, or no Prefix contains an address.
	ExitNotFound
	// ExitConflict means that the state of the cluster is in the way: the prefix is in use, an object of that name asks
	// for something else, a Prefix has children, or a check found differences.
	ExitConflict
	// ExitInvalid means that the server or the command rejected the content of a request or a file.
	ExitInvalid
	// ExitNoRoom means that no parent has a free block of the requested length.
	ExitNoRoom
	// ExitUnavailable means that the server cannot be reached, or a timeout ended the wait.
	ExitUnavailable
)

// exitError is an error with an exit code.
type exitError struct {
	code ExitCode
	error
}

// Unwrap returns the error without the code.
func (e exitError) Unwrap() error { return e.error }

// exitf returns an error with an exit code and a formatted message.
func exitf(code ExitCode, format string, args ...any) error {
	return exitError{code, fmt.Errorf(format, args...)}
}

// codeOf returns the exit code for an error.
func codeOf(err error) ExitCode {
	var coded exitError
	var urlError *url.Error
	var netError net.Error
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &coded):
		return coded.code
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return ExitForbidden
	case apierrors.IsNotFound(err):
		return ExitNotFound
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return ExitConflict
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), statusCode(err) == http.StatusRequestEntityTooLarge:
		return ExitInvalid
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), apierrors.IsServiceUnavailable(err), apierrors.IsTooManyRequests(err),
		statusCode(err) == http.StatusBadGateway, wait.Interrupted(err), errors.Is(err, context.Canceled),
		errors.As(err, &urlError), errors.As(err, &netError):
		return ExitUnavailable
	case clientcmd.IsConfigurationInvalid(err), clientcmd.IsContextNotFound(err), clientcmd.IsEmptyConfig(err):
		return ExitUsage
	}
	return ExitError
}

// statusCode returns the HTTP status code of an answer of the server, or 0 if the error is none.
func statusCode(err error) int32 {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status.Status().Code
	}
	return 0
}
