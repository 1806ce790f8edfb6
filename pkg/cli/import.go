// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/scheme"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// importOptions are the flags of the command import.
type importOptions struct {
	dryRun  bool
	timeout time.Duration
}

func (s *session) newImportCommand() *cobra.Command {
	o := &importOptions{}
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Create the Prefixes in a CSV or YAML file",
		Long: "Create the Prefixes in a file, or in standard input if FILE is -. A file whose name ends in .csv is CSV, others are YAML or " +
			"JSON of Prefixes, as export writes them.\n\n" +
			"The first line of CSV names the columns, in any order: " + strings.Join(csvColumns, ", ") + ". Only prefix or length is required. " +
			"labels are key=value pairs, separated by semicolons. A parent in another namespace is written as NAMESPACE/NAME. A prefix export of NetBox has the columns prefix, description, " +
			strings.Join(netboxLabels, ", ") + ", of which the last ones become labels; other columns are ignored. Without a column parent, the " +
			"parent is the smallest Prefix of the same namespace and VRF that contains the prefix, in the file or in the cluster.\n\n" +
			"import first checks the whole file and prints for each line what it does, or what it did: create, created, exists, or error with the reason. If there is " +
			"an error, nothing is created, and the exit code is 6. What exists is left as it is, so a second run goes on where the first one " +
			"ended; something else under the name of a line is an error. At last it waits until all Prefixes of the file are allocated.",
		Example: "  kubectl ipam import plan.csv --dry-run\n  kubectl ipam export -A | kubectl ipam import - --context new",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.checkOutput(); err != nil {
				return err
			}
			return s.importFile(cmd.Context(), o, args[0])
		},
	}
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "Only print what would be done.")
	cmd.Flags().DurationVar(&o.timeout, "timeout", time.Minute, "How long to wait until the Prefixes are allocated; 0 does not wait.")
	s.addQuietFlag(cmd, "the lines with errors")
	s.addYesFlag(cmd)
	s.addOutputFlag(cmd)
	return cmd
}

// The actions for a line.
const (
	actionCreate  = "create"
	actionCreated = "created"
	actionExists  = "exists"
	actionError   = "error"
)

// importItem is a line in JSON and YAML.
type importItem struct {
	Line      int    `json:"line"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Prefix    string `json:"prefix,omitempty"`
	// Request is what is asked for if that is a length.
	Request string `json:"request,omitempty"`
	Parent  string `json:"parent,omitempty"`
	Action  string `json:"action"`
	Message string `json:"message,omitempty"`
}

// importFile creates what is in a file.
func (s *session) importFile(ctx context.Context, o *importOptions, file string) error {
	records, err := s.readFile(file)
	if err != nil {
		return err
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.object != nil && r.object.Namespace == "" {
			r.object.Namespace = c.namespace
		}
	}
	exists, err := s.plan(ctx, records)
	if err != nil {
		return err
	}
	wrong, todo := 0, []*record(nil)
	for _, r := range records {
		switch {
		case r.err != nil:
			wrong++
		case !exists[r]:
			todo = append(todo, r)
		}
	}
	if wrong > 0 || o.dryRun {
		if err := s.printImport(records, exists, false); err != nil {
			return err
		}
		s.note("%d to create, %d exist, %d errors.", len(todo), len(records)-len(todo)-wrong, wrong)
		if wrong > 0 {
			return exitf(ExitInvalid, "%d lines have errors, so nothing is created", wrong)
		}
		return nil
	}
	if question := fmt.Sprintf("Create %d Prefixes?", len(todo)); len(todo) > 0 {
		if ok, asked := s.confirm(question); asked && !ok {
			return exitf(ExitConflict, "nothing is created")
		}
	}
	failed := s.create(ctx, todo, exists)
	if err := s.printImport(records, exists, true); err != nil {
		return err
	}
	s.note("%d created, %d exist, %d failed.", len(records)-len(exists)-failed, len(exists), failed)
	if failed > 0 {
		errs := make([]error, 0, failed)
		for _, r := range todo {
			if r.err != nil {
				errs = append(errs, r.err)
			}
		}
		return exitf(codeOf(errs[0]), "%d lines could not be created; a second run tries them again", failed)
	}
	if o.timeout == 0 {
		return nil
	}
	return s.waitImported(ctx, records, o.timeout)
}

// readFile reads the records of a file.
func (s *session) readFile(name string) ([]*record, error) {
	in := s.In
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, exitf(ExitUsage, "%w", err)
		}
		defer file.Close()
		in = file
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(strings.ToLower(name), ".csv") || name == "-" && !isYAML(data) {
		return readCSV(bytes.NewReader(data))
	}
	return readYAML(data)
}

// isYAML reports whether data from standard input is YAML or JSON of objects, and not CSV.
func isYAML(data []byte) bool {
	text := string(data)
	return strings.HasPrefix(strings.TrimSpace(text), "{") || strings.HasPrefix(text, "apiVersion:") || strings.Contains(text, "\napiVersion:")
}

// readYAML reads Prefixes, or lists of them, as YAML or JSON.
func readYAML(data []byte) ([]*record, error) {
	var records []*record
	add := func(line int, p *v1alpha1.Prefix) {
		r := &record{line: line, hasParent: true, object: &v1alpha1.Prefix{
			ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, Annotations: p.Annotations}, Spec: p.Spec}}
		if p.Spec.Prefix != "" {
			if r.prefix, r.err = cidr.Parse(p.Spec.Prefix); r.err != nil {
				r.err = fmt.Errorf("spec.prefix: %q %w", p.Spec.Prefix, r.err)
			}
		}
		if p.Name == "" {
			r.err = errors.New("metadata.name is missing")
		}
		records = append(records, r)
	}
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for number := 1; ; number++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return nil, exitf(ExitInvalid, "%w", err)
		}
		converted, err := yaml.ToJSON(document)
		if err != nil {
			return nil, exitf(ExitInvalid, "document %d: %w", number, err)
		}
		if string(converted) == "null" {
			continue
		}
		obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(converted, nil, nil)
		if err != nil {
			return nil, exitf(ExitInvalid, "document %d: %w", number, err)
		}
		switch obj := obj.(type) {
		case *v1alpha1.Prefix:
			add(number, obj)
		case *v1alpha1.PrefixList:
			for i := range obj.Items {
				add(i+1, &obj.Items[i])
			}
		default:
			return nil, exitf(ExitInvalid, "document %d is a %s, not a Prefix", number, obj.GetObjectKind().GroupVersionKind().Kind)
		}
	}
}

// plan completes the records and finds out which of them exist. It sets the error of those that cannot be created.
func (s *session) plan(ctx context.Context, records []*record) (exists map[*record]bool, err error) {
	exists = map[*record]bool{}
	byNamespace := map[string][]*record{}
	for _, r := range records {
		if r.err == nil {
			byNamespace[r.object.Namespace] = append(byNamespace[r.object.Namespace], r)
		}
	}
	for namespace, records := range byNamespace {
		there := map[types.NamespacedName]*node{}
		byVRF := map[string][]*node{}
		byName := map[string][]*record{}
		for _, r := range records {
			byName[r.object.Name] = append(byName[r.object.Name], r)
		}
		err := s.clients.eachPrefixIn(ctx, namespace, metav1.ListOptions{}, func(p *v1alpha1.Prefix) error {
			n := newNode(p, labels.Everything())
			there[n.NamespacedName] = n
			for _, r := range byName[p.Name] {
				exists[r] = true
				r.err = r.compare(p)
			}
			byVRF[p.Labels["vrf"]] = append(byVRF[p.Labels["vrf"]], n)
			return nil
		})
		if err != nil {
			return nil, err
		}
		ofVRF := map[string][]*record{}
		for _, r := range records {
			ofVRF[vrfOf(r)] = append(ofVRF[vrfOf(r)], r)
		}
		for vrf, records := range ofVRF {
			findParents(records, byVRF[vrf])
		}
		findOverlaps(records, there)
		findTwice(records)
	}
	return exists, nil
}

// compare returns an error if an existing Prefix of the name of a record is not what the record asks for. Where the record
// does not say what the parent is, the Prefix has the one that it got.
func (r *record) compare(p *v1alpha1.Prefix) error {
	want := r.object.Spec.DeepCopy()
	if p.DeletionTimestamp != nil {
		return errors.New("it exists, and is being deleted")
	}
	difference := differsIn(want, &p.Spec)
	if difference == "" && r.hasParent && want.IsRoot() && !p.Spec.IsRoot() {
		difference = "is allocated from " + cmp.Or(parentInWords(p), "a parent that its selector matches")
	}
	if difference != "" {
		return fmt.Errorf("it exists, and %s", difference)
	}
	return nil
}

// findTwice sets the error of records with the name of an earlier one.
func findTwice(records []*record) {
	first := map[string]int{}
	for _, r := range records {
		if line, ok := first[r.object.Name]; ok && r.err == nil {
			r.err = fmt.Errorf("line %d has the same name", line)
		} else if !ok {
			first[r.object.Name] = r.line
		}
	}
}

// findOverlaps sets the error of records whose prefix overlaps another one with the same parent, in the file or in the
// cluster.
func findOverlaps(records []*record, there map[types.NamespacedName]*node) {
	type place struct {
		node *node
		*record
	}
	siblings := map[string][]place{}
	names := map[string]bool{}
	for _, r := range records {
		if r.err == nil && r.prefix.IsValid() && (r.object.Spec.ParentRef != nil && r.object.Spec.ParentNamespace == "" || r.object.Spec.IsRoot()) {
			n := &node{NamespacedName: types.NamespacedName{Namespace: r.object.Namespace, Name: r.object.Name}, parent: parentOf(r.object), prefix: r.prefix}
			key := n.parent
			if key == "" {
				// Roots of different VRFs may overlap. No Prefix has this name.
				key = "/" + vrfOf(r)
			}
			siblings[key] = append(siblings[key], place{n, r})
			names[n.Name] = true
		}
	}
	for _, n := range there {
		if n.prefix.IsValid() && n.parent != "" && !names[n.Name] {
			siblings[n.parent] = append(siblings[n.parent], place{node: n})
		}
	}
	for _, places := range siblings {
		slices.SortFunc(places, func(a, b place) int { return byAddress(a.node, b.node) })
		var widest *place
		for i := range places {
			p := &places[i]
			if widest == nil || !widest.node.prefix.Overlaps(p.node.prefix) {
				widest = p
				continue
			}
			wrong, other := p, widest
			if wrong.record == nil {
				wrong, other = widest, p
			}
			if wrong.record != nil {
				wrong.err = fmt.Errorf("%s overlaps %s of the Prefix %s", wrong.node.prefix, other.node.prefix, other.node.Name)
			}
		}
	}
}

// createWorkers is the number of Prefixes that are created at the same time.
const createWorkers = 8

// create creates the objects of records, those with the shortest prefixes first. It sets the error of those that fail,
// and returns how many these are. Those that somebody else has created meanwhile it adds to exists.
func (s *session) create(ctx context.Context, records []*record, exists map[*record]bool) (failed int) {
	sorted := slices.Clone(records)
	slices.SortStableFunc(sorted, func(a, b *record) int { return cmp.Compare(bitsOf(a), bitsOf(b)) })
	creating := s.newProgress("Creating", len(sorted))
	defer creating.end()
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(createWorkers)
	for _, r := range sorted {
		group.Go(func() error {
			prefixes := s.clients.ipam.Prefixes(r.object.Namespace)
			_, err := prefixes.Create(ctx, r.object, metav1.CreateOptions{FieldManager: fieldManager})
			found := apierrors.IsAlreadyExists(err)
			if found {
				var p *v1alpha1.Prefix
				if p, err = prefixes.Get(ctx, r.object.Name, metav1.GetOptions{}); err == nil {
					err = r.compare(p)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			creating.step()
			if err != nil {
				r.err = err
				failed++
			} else if found {
				exists[r] = true
			}
			return nil
		})
	}
	_ = group.Wait()
	return failed
}

// bitsOf returns the length that a record asks for.
func bitsOf(r *record) int {
	if r.prefix.IsValid() {
		return r.prefix.Bits()
	}
	return int(r.object.Spec.PrefixLength)
}

// waitImported waits until the Prefixes of records are allocated. It prints those that are not.
func (s *session) waitImported(ctx context.Context, records []*record, timeout time.Duration) error {
	names := map[types.NamespacedName]bool{}
	namespaces := map[string]bool{}
	for _, r := range records {
		names[types.NamespacedName{Namespace: r.object.Namespace, Name: r.object.Name}] = true
		namespaces[r.object.Namespace] = true
	}
	var pending []string
	err := wait.PollUntilContextTimeout(ctx, 500*time.Millisecond, timeout, true, func(ctx context.Context) (bool, error) {
		var waiting []string
		stalled := 0
		for namespace := range namespaces {
			opts := metav1.ListOptions{FieldSelector: "status.phase=" + string(v1alpha1.PrefixPhasePending)}
			err := s.clients.eachPrefixIn(ctx, namespace, opts, func(p *v1alpha1.Prefix) error {
				if !names[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] {
					return nil
				}
				line := p.Name
				if condition := reported(p); condition != nil {
					line += ": " + condition.Reason + ": " + condition.Message
				}
				waiting = append(waiting, line)
				if meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionStalled) {
					stalled++
				}
				return nil
			})
			if err != nil {
				return false, err
			}
		}
		if pending = waiting; len(pending) > 0 && stalled == len(pending) {
			return false, errStalled
		}
		return len(pending) == 0, nil
	})
	if err == nil {
		return s.confirmImported(ctx, names, namespaces)
	}
	if !wait.Interrupted(err) && !errors.Is(err, errStalled) || ctx.Err() != nil {
		return err
	}
	slices.Sort(pending)
	for _, line := range pending[:min(len(pending), maxListed)] {
		s.say("%s", line)
	}
	return exitf(ExitUnavailable, "%d Prefixes exist, but are not allocated", len(pending))
}

// confirmImported fails unless all Prefixes are allocated. What is not pending may have been deleted meanwhile.
func (s *session) confirmImported(ctx context.Context, names map[types.NamespacedName]bool, namespaces map[string]bool) error {
	left := maps.Clone(names)
	for namespace := range namespaces {
		err := s.clients.eachPrefixIn(ctx, namespace, metav1.ListOptions{}, func(p *v1alpha1.Prefix) error {
			if p.DeletionTimestamp == nil && p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
				delete(left, types.NamespacedName{Namespace: p.Namespace, Name: p.Name})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	missing := slices.SortedFunc(maps.Keys(left), func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
	for _, name := range missing[:min(len(missing), maxListed)] {
		s.say("%s was deleted meanwhile.", name)
	}
	if len(missing) > 0 {
		return exitf(ExitConflict, "%d Prefixes were deleted meanwhile", len(missing))
	}
	return nil
}

// printImport prints what would be done with each record or, if created is set, what has been done.
func (s *session) printImport(records []*record, exists map[*record]bool, created bool) error {
	r := result{kind: "ImportPlan", columns: []column{{name: "LINE"}, {name: "NAMESPACE", wide: true}, {name: "NAME"}, {name: "PREFIX"}, {name: "PARENT"}, {name: "ACTION"}}}
	for _, record := range records {
		item := importItem{Line: record.line, Action: actionCreate}
		if p := record.object; p != nil {
			item.Namespace, item.Name, item.Prefix, item.Parent = p.Namespace, p.Name, p.Spec.Prefix, parentInWords(p)
			if item.Prefix == "" && p.Spec.PrefixLength != 0 {
				item.Request = fmt.Sprintf("a /%d", p.Spec.PrefixLength)
			}
		}
		paint := green
		switch {
		case record.err != nil:
			item.Action, item.Message, paint = actionError, record.err.Error(), red
		case s.quiet:
			continue
		case exists[record]:
			item.Action, paint = actionExists, plain
		case created:
			item.Action = actionCreated
		}
		action := item.Action
		if item.Message != "" {
			action += ": " + item.Message
		}
		r.rows = append(r.rows, row{cells: []string{fmt.Sprint(item.Line), item.Namespace, orNone(item.Name), orNone(item.Prefix + item.Request), orNone(item.Parent), action},
			item: item, name: item.Name, color: paint})
	}
	return s.print(r)
}
