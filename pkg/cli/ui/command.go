// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	ipamclientset "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// options are those of the command.
type options struct {
	port  int
	open  bool
	place string

	config  *genericclioptions.ConfigFlags
	streams genericiooptions.IOStreams
	// denied is called if a part of the cluster may not be read.
	denied func()
	// openBrowser shows a file in the browser of the user.
	openBrowser func(file string) error
}

// NewCommand returns the command "ui". It calls denied if the user may read only one namespace.
func NewCommand(configFlags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams, denied func()) *cobra.Command {
	o := &options{config: configFlags, streams: streams, denied: denied, openBrowser: openBrowser}
	cmd := &cobra.Command{
		Use:   "ui [PLACE]",
		Short: "Show the address space in the browser",
		Long: `Show the address space in the browser: the tree of Prefixes, a map of each, and what waits and why.

The page comes from a server on 127.0.0.1 that reads the cluster with your kubeconfig, and changes nothing. Its URL has a
random token in it, so that nobody else on this machine, and no other page in your browser, can read it. It shows all
namespaces that you may read; -n restricts it to one.

PLACE is what to show first: a part "#/NAMESPACE/NAME/CIDR" of the URL that somebody sent you, or the whole URL.`,
		Example: `  # Show all address space
  kubectl ipam ui

  # Show 10.1.0.0/16 of the Prefix "root"
  kubectl ipam ui '#/default/root/10.1.0.0/16'

  # On a machine without a browser: print the URL, on a port to forward
  kubectl ipam ui --open=false --port 8001`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.MaximumNArgs(1)(cmd, args); err != nil || len(args) == 0 {
				return err
			}
			_, err := fragmentOf(args[0])
			return err
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		SilenceUsage:      true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.place = args[0]
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return o.run(ctx)
		},
	}
	cmd.Flags().IntVar(&o.port, "port", 0, "Port on 127.0.0.1. 0 is any free one.")
	cmd.Flags().BoolVar(&o.open, "open", true, "Open the page in the browser.")
	return cmd
}

// run serves the page until the context ends.
func (o *options) run(ctx context.Context) error {
	fragment, err := fragmentOf(o.place)
	if err != nil {
		return err
	}
	client, namespace, err := o.connect(ctx)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(o.port)))
	if err != nil {
		return err
	}
	m := newModel()
	a := &api{model: m, feeds: newFeeds(client, namespace, m), scope: namespace, heartbeat: 10 * time.Second}
	if a.cluster, err = o.contextName(); err != nil {
		return err
	}
	for _, f := range a.feeds {
		go f.run(ctx)
	}
	go a.sampleCounts(ctx)

	token := newToken()
	server := newServer(newGuard(token, listener.Addr(), a.handler()))
	server.BaseContext = func(net.Listener) context.Context { return ctx }
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	page := "http://" + listener.Addr().String() + "/" + token + "/" + fragment
	if _, err := fmt.Fprintln(o.streams.Out, page); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(o.streams.ErrOut, "The page is yours alone: the URL has a token in it. Ctrl-C ends it.")
	if o.open {
		remove, err := o.show(page)
		if err != nil {
			_, _ = fmt.Fprintln(o.streams.ErrOut, "Open the URL in your browser:", plaintext.Escape(err.Error()))
		}
		defer remove()
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
		err = server.Close()
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// connect returns a client, and the namespace to read: all of them if that is allowed and no other one was asked for.
func (o *options) connect(ctx context.Context) (ipamclient.IpamV1alpha1Interface, string, error) {
	config, err := o.config.ToRESTConfig()
	if err != nil {
		return nil, "", err
	}
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.QPS, config.Burst = 50, 100
	clientset, err := ipamclientset.NewForConfig(config)
	if err != nil {
		return nil, "", err
	}
	client := clientset.IpamV1alpha1()
	if o.config.Namespace != nil && *o.config.Namespace != "" {
		_, err := client.Prefixes(*o.config.Namespace).List(ctx, metav1.ListOptions{Limit: 1})
		return client, *o.config.Namespace, err
	}
	_, err = client.Prefixes(metav1.NamespaceAll).List(ctx, metav1.ListOptions{Limit: 1})
	if !apierrors.IsForbidden(err) {
		return client, "", err
	}
	namespace, _, err := o.config.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, "", err
	}
	if _, err := client.Prefixes(namespace).List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
		return nil, "", err
	}
	o.denied()
	_, _ = fmt.Fprintf(o.streams.ErrOut, "You may not read all namespaces, so the page shows only %s. -n names another one.\n", plaintext.Escape(namespace))
	return client, namespace, nil
}

// contextName returns the name of the context of the kubeconfig.
func (o *options) contextName() (string, error) {
	if o.config.Context != nil && *o.config.Context != "" {
		return *o.config.Context, nil
	}
	raw, err := o.config.ToRawKubeConfigLoader().RawConfig()
	return raw.CurrentContext, err
}

// fragmentOf returns the fragment of a URL that shows a place, with "#", or "" for no place.
func fragmentOf(place string) (string, error) {
	if place == "" {
		return "", nil
	}
	_, fragment, ok := strings.Cut(place, "#")
	u := url.URL{Fragment: fragment}
	if fragment, err := url.PathUnescape(fragment); err == nil {
		u.Fragment = fragment
	}
	if !ok || !strings.HasPrefix(u.Fragment, "/") {
		return "", fmt.Errorf("%q names no place: it is the part of the URL from # on", place)
	}
	return u.String(), nil
}

// show opens a page in the browser. The browser gets the name of a file that only the user can read, and which leads to
// the page, since everybody on the machine can see the arguments of a process. remove deletes the file.
func (o *options) show(page string) (remove func(), err error) {
	dir, err := os.MkdirTemp("", "kubectl-ipam-ui-")
	if err != nil {
		return func() {}, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	file := filepath.Join(dir, "open.html")
	content := "<!doctype html><meta charset=utf-8><title>kubectl ipam ui</title><meta name=referrer content=no-referrer>" +
		"<meta http-equiv=refresh content=\"0; url=" + html.EscapeString(page) + "\">"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		return remove, err
	}
	return remove, o.openBrowser(file)
}

// openBrowser opens a file in the browser of the user.
func openBrowser(file string) error {
	var cmd *exec.Cmd
	switch runtime.GOOS {
	case "darwin":
		cmd = exec.Command("open", file)
	case "windows":
		cmd = exec.Command("rundll32", "url.dll,FileProtocolHandler", file)
	default:
		cmd = exec.Command("xdg-open", file)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	return nil
}

// sampleCounts keeps the history of the number of objects, from when they have been read until the context ends.
func (a *api) sampleCounts(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	last := -1
	for {
		if phase, _ := a.feeds[0].state(); phase == phaseLive {
			a.model.mu.Lock()
			if count := a.model.prefixes + a.model.allocations; count != last {
				a.model.counts.add(a.model.now(), float64(count))
				last = count
			}
			a.model.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
