// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// clearScreen moves the cursor of a terminal to the top and clears what is below it.
const clearScreen = "\x1b[H\x1b[2J"

const (
	// watchPause is the least time between two prints with --watch.
	watchPause = time.Second
	// watchRest is how many times as long as a print took, nothing is read after it.
	watchRest = 3
	// watchTime is the time after which a watch is begun anew, in seconds.
	watchTime = 300
)

// addWatchFlag adds the flag that prints again after changes.
func (s *session) addWatchFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&s.watch, "watch", "w", false, "Print again after each change of a Prefix or a PrefixPolicy, at most once a second, until Ctrl-C.")
}

// watched calls show, which prints to s.Out. With --watch, it calls it again after each change, until the context ends, and
// prints what differs from before. On a terminal that is in the place of what was there.
func (s *session) watched(ctx context.Context, show func(context.Context) error) error {
	if !s.watch {
		return show(ctx)
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	namespace := c.namespace
	if s.allNamespaces {
		namespace = metav1.NamespaceAll
	}
	var buffer bytes.Buffer
	out, colors, isTerminal := s.Out, s.AllowsColor(s.Out), s.IsTerminal
	terminal := isTerminal(out)
	s.Out, s.said = &buffer, map[string]bool{}
	s.AllowsColor = func(io.Writer) bool { return colors }
	s.IsTerminal = func(stream any) bool {
		if stream == any(&buffer) {
			return terminal
		}
		return isTerminal(stream)
	}
	shown := ""
	for first := true; ; first = false {
		began := time.Now()
		// What changes from here on is seen, also while it is read.
		changed, stop, err := c.changes(ctx, namespace)
		if err != nil {
			return s.interrupted(ctx, err)
		}
		buffer.Reset()
		err = show(ctx)
		if text := buffer.String(); text != shown || first {
			switch {
			case terminal:
				text = clearScreen + text
			case first:
			case s.output == "yaml":
				text = "---\n" + text
			case s.isTable():
				text = "\n" + text
			}
			shown = buffer.String()
			if _, err := io.WriteString(out, text); err != nil {
				stop()
				return err
			}
		}
		if err != nil {
			stop()
			return s.interrupted(ctx, err)
		}
		select {
		case <-ctx.Done():
			stop()
			return nil
		case <-changed:
			stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(watchPause, watchRest*time.Since(began))):
		}
	}
}

// interrupted returns the error of a watch. To end it is no error.
func (s *session) interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// changes watches the Prefixes and, if that is allowed, the PrefixPolicies of a namespace, or of all. The channel is closed
// when something changed or a watch ended. stop ends the watches.
func (c *clients) changes(ctx context.Context, namespace string) (changed <-chan struct{}, stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	prefixes, err := c.ipam.Prefixes(namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("list: %w", err)
	}
	timeout := int64(watchTime)
	since := func(version string) metav1.ListOptions {
		return metav1.ListOptions{ResourceVersion: version, TimeoutSeconds: &timeout}
	}
	ofPrefixes, err := c.ipam.Prefixes(namespace).Watch(ctx, since(prefixes.ResourceVersion))
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("watch: %w", err)
	}
	watches := []watch.Interface{ofPrefixes}
	policies, err := c.ipam.PrefixPolicies(namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err == nil {
		var ofPolicies watch.Interface
		if ofPolicies, err = c.ipam.PrefixPolicies(namespace).Watch(ctx, since(policies.ResourceVersion)); err == nil {
			watches = append(watches, ofPolicies)
		}
	}
	if err != nil && !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
		cancel()
		ofPrefixes.Stop()
		return nil, nil, fmt.Errorf("watch: %w", err)
	}
	for _, w := range watches {
		go func() {
			defer w.Stop()
			// An event, an error and the end are all reasons to look again.
			select {
			case <-w.ResultChan():
			case <-ctx.Done():
			}
			cancel()
		}()
	}
	return ctx.Done(), cancel, nil
}

// sayOnce reports whether a line has not been said before. Without --watch, lines may be said again.
func (s *session) sayOnce(line string) bool {
	line = strings.TrimSpace(line)
	if s.said == nil {
		return true
	}
	if s.said[line] {
		return false
	}
	s.said[line] = true
	return true
}
