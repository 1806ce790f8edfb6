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
	"reflect"
	"slices"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
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
	// text is the message, ready to be printed: what came from elsewhere in it is escaped, its own line breaks are not.
	text string
}

// Error implements error.
func (e exitError) Error() string { return e.text }

// Unwrap returns the error without the code.
func (e exitError) Unwrap() error { return e.error }

// exitf returns an error with an exit code and a formatted message.
func exitf(code ExitCode, format string, args ...any) error {
	return exitError{code, fmt.Errorf(format, args...), fmt.Sprintf(strings.ReplaceAll(format, "%w", "%v"), escaped(args)...)}
}

// escaped returns the arguments of a format, with texts, errors and what has a text of its own escaped.
func escaped(args []any) []any {
	safe := slices.Clone(args)
	for i, arg := range safe {
		if err, ok := arg.(error); ok {
			safe[i] = messageOf(err)
		} else if stringer, ok := arg.(fmt.Stringer); ok {
			safe[i] = plaintext.Escape(stringer.String())
		} else if text := reflect.ValueOf(arg); text.Kind() == reflect.String {
			safe[i] = plaintext.Escape(text.String())
		}
	}
	return safe
}

// messageOf returns the message of an error, ready to be printed. Line breaks that came from elsewhere are escaped: whoever
// can put one into a message could write a line that looks like one of this program.
func messageOf(err error) string {
	if coded, ok := err.(exitError); ok {
		return coded.text
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && len(joined.Unwrap()) > 0 {
		var lines []string
		for _, err := range joined.Unwrap() {
			lines = append(lines, messageOf(err))
		}
		return strings.Join(lines, "\n")
	}
	return plaintext.Escape(err.Error())
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
