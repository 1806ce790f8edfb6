// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// measurement measures one or several rows of the report in one run.
type measurement struct {
	name string
	// how describes the method.
	how string
	// linked is true if it measures packages that are linked into this program, and does not start other programs.
	linked  bool
	rows    []*row
	measure func(*bench)
}

// names returns the names of the rows.
func (m measurement) names() []string {
	var names []string
	for _, row := range m.rows {
		if !slices.Contains(names, row.name) {
			names = append(names, row.name)
		}
	}
	return names
}

// row is a line of the report.
type row struct {
	// name selects the row. Several rows may have the same name.
	name string
	// id identifies the row in the measurement. It is unique.
	id   string
	what string
	unit string
	// goal is the goal for the figure. Without one, the row is only for information.
	goal goal
}

// goal is a limit for a figure.
type goal struct {
	relation string
	value    float64
}

func atLeast(value float64) goal { return goal{">=", value} }
func atMost(value float64) goal  { return goal{"<=", value} }

func (g goal) isMetBy(value float64) bool {
	if g.relation == ">=" {
		return value >= g.value
	}
	return value <= g.value
}

func (g goal) String() string {
	if g.relation == "" {
		return ""
	}
	return g.relation + " " + number(g.value)
}

// measurements contains all measurements, in the order of the report.
var measurements = []measurement{
	{
		name: "free space",
		how: "pkg/allocator frees one address and takes one, of a parent in which every other address is in use; netipx does the same with " +
			"RemoveFreePrefix and a builder. The address that is freed is a random one. The two take turns, 5 times.",
		linked: true,
		rows: []*row{
			{"A1", "netipx IPv4", "allocate and free an IPv4 /32 among 100,000 fragments, against go4.org/netipx", "x as fast", atLeast(20_000)},
			{"A1", "netipx IPv6", "allocate and free an IPv6 /128 among 100,000 fragments, against go4.org/netipx", "x as fast", atLeast(20_000)},
			{"A1", "allocs IPv4", "heap allocations of that, IPv4", "an operation", atMost(2)},
			{"A1", "allocs IPv6", "heap allocations of that, IPv6", "an operation", atMost(2)},
			{"A1", "ns IPv4", "time of that, IPv4", "ns", goal{}},
			{"A1", "ns IPv6", "time of that, IPv6", "ns", goal{}},
		},
		measure: measureNetipx,
	},
	{
		name:   "free space by size",
		how:    "The same of parents with 1,000 and with 1,000,000 fragments. They take turns, 5 times.",
		linked: true,
		rows: []*row{
			{"A2", "size IPv4", "time among 1,000,000 fragments against 1,000, IPv4", "x its time", atMost(2)},
			{"A2", "size IPv6", "time among 1,000,000 fragments against 1,000, IPv6", "x its time", atMost(2)},
		},
		measure: measureFragments,
	},
	{
		name: "free space against Kubernetes",
		how: "A /12 of which a random half of the /32s is in use. The allocator of the addresses of Services of Kubernetes, in memory, frees a " +
			"random address and takes the one that AllocateNext chooses; ours as above. That allocator is a bitmap, which does the same " +
			"with numbers instead of addresses. They take turns, 5 times.",
		linked: true,
		rows: []*row{
			{"A3", "addresses", "allocate and free a /32 of a /12 that is half full, against the allocator of Kubernetes", "x its time", atMost(1)},
			{"A3", "addresses ns", "time of that allocator", "ns", goal{}},
			{"A3", "bits", "the same against its bitmap, which knows only numbers", "x its time", goal{}},
			{"A3", "bits ns", "time of that bitmap", "ns", goal{}},
			{"A3", "ours ns", "time of ours", "ns", goal{}},
		},
		measure: measureBitmap,
	},
	{
		name:   "protobuf",
		how:    "A v1alpha1 object is encoded and decoded by the serializers of the API server. They take turns, 5 times.",
		linked: true,
		rows: []*row{
			{"C1", "codec one", "protobuf against JSON, a Prefix with managed fields there and back", "x as fast", atLeast(2)},
			{"C1", "codec list", "protobuf against JSON, a list of 1,000 of them there and back", "x as fast", atLeast(2)},
		},
		measure: measureCodecs,
	},
	{
		name: "bind by HTTP",
		how: "64 clients write 1,024 objects in each of 8 rounds to one server, in four ways that take turns: bind, an update of the " +
			"status, a claim as an object and then an update, a claim as a key in etcd and then an update.",
		linked: true,
		rows: []*row{
			{"B1", "bind/update", "binds against plain updates of a status, by HTTP", "x its rate", atLeast(0.85)},
			{"B2", "bind/claim", "binds against a claim that is an object and then an update, by HTTP", "x its rate", atLeast(1.5)},
			{"B1", "bind/key", "binds against a claim that is a key of etcd and then an update, by HTTP", "x its rate", goal{}},
			{"B1", "bind", "binds, by HTTP", "a second", goal{}},
		},
		measure: measureBindByHTTP,
	},
	{
		name:   "bind in storage",
		how:    "The same without HTTP, on storage with the options of the server.",
		linked: true,
		rows: []*row{
			{"B1", "storage/update", "binds against plain updates of a status, in storage", "x its rate", goal{}},
			{"B2", "storage/claim", "binds against a claim that is an object and then an update, in storage", "x its rate", goal{}},
		},
		measure: measureBindInStorage,
	},
	{
		name: "children",
		how: "64 creators create 5,000 children of a new parent on ipam-standalone, until a watch has seen the last one Allocated; on another " +
			"ipam-standalone without controllers, 64 clients do four writes 5,000 times. They take turns, 3 times. Clients speak protobuf, as " +
			"the controllers do, unless --json is set. The writes are what etcd counts.",
		rows: []*row{
			{"E1", "children/plain", "children against the same four writes with nothing allocated", "x its rate", atLeast(0.85)},
			{"E1", "plain", "those four writes", "a second", goal{}},
			{"E2", "children", "children of one parent, 64 creators", "a second", atLeast(440)},
			{"E6", "transactions", "transactions of etcd that write, the parent's counting included", "a child", atMost(4.3)},
			{"E6", "puts", "puts of etcd: the claim is one of its own, in the transaction of the bind", "a child", goal{}},
		},
		measure: measureChildren,
	},
	{
		name: "many children of one parent",
		how: "One ipam-standalone has a parent with 100,000 children, another one gets a new parent with 1,000 in each round. 2,000 more of each " +
			"are measured as in E2. They take turns, 9 times.",
		rows:    []*row{{"E3", "existing", "children of a parent that has 100,000, against of one that has 1,000", "x its rate", atLeast(0.9)}},
		measure: measureExisting,
	},
	{
		name: "selectors",
		how: "On an ipam-standalone with so many parents that the selector matches, 2,000 children by selector and 2,000 by reference to another " +
			"parent take turns, 9 times.",
		rows: []*row{
			{"E4", "selector 100", "children by selector with 100 candidates, against by reference", "x its rate", atLeast(0.9)},
			{"E4", "selector 1000", "children by selector with 1,000 candidates, against by reference", "x its rate", atLeast(0.9)},
		},
		measure: measureSelectors,
	},
	{
		name: "reserved ranges",
		how: "On an ipam-standalone, 2,000 children of a new /8 of which a policy reserves 10,000 ranges, and 2,000 of a new /8 without a policy " +
			"take turns, 9 times. The ranges lie in every other /28 at the beginning of the /8, where children are allocated.",
		rows:    []*row{{"P2", "reserved", "children of a parent with 10,000 reserved ranges, against of one with none", "x its rate", atLeast(0.9)}},
		measure: measureReserved,
	},
	{
		name: "latency",
		how: "One child is created each 50 ms on ipam-standalone, 600 of them in each of 5 rounds. It begins before the create and ends when a " +
			"watch sees it Allocated.",
		rows: []*row{
			{"E5", "p50", "create until Allocated at 20 children a second, the one in the middle", "ms", atMost(25)},
			{"E5", "p99", "create until Allocated at 20 children a second, 99 of 100", "ms", atMost(100)},
		},
		measure: measureLatency,
	},
	{
		name: "fairness",
		how: "On one ipam-standalone a tenant has 10,000 children by selector that nothing matches, so that they wait. Another tenant creates one child " +
			"each 50 ms, 300 in each of 5 rounds, alone and while the first one puts the label that all wait for on a /32 and takes it off, " +
			"again and again, without a pause.",
		rows: []*row{
			{"F1", "beside", "create until Allocated, 99 of 100, beside a tenant whose 10,000 requests wait, and who toggles labels, against alone", "x its time", atMost(1.5)},
			{"F1", "alone", "create until Allocated, 99 of 100, without that", "ms", goal{}},
			{"F1", "toggles", "labels that the first tenant changes meanwhile", "a second", goal{}},
		},
		measure: measureFairness,
	},
	{
		name: "cool-down that ends",
		how: "With one ipam-apiserver and one ipam-controller-manager, 100,000 children of a /8 are deleted, and a policy makes their space cool down until the same second. One child of " +
			"another /8 of the same namespace is created each 50 ms, 600 in each of 5 rounds, before the deletions and after that second, as long " +
			"as space is released. The slowest of 100 are found among those of all 5 rounds, because a round alone may have no collection of garbage.",
		rows: []*row{
			{"P4", "beside", "create until Allocated, 99 of 100, while 100,000 prefixes that have cooled down are released, against before", "x its time", atMost(2)},
			{"P4", "beside p50", "the same of the one in the middle", "x its time", atMost(2)},
			{"P4", "before", "create until Allocated, 99 of 100, before that", "ms", goal{}},
			{"P4", "released", "prefixes that are released meanwhile", "a second", goal{}},
		},
		measure: measureCoolDown,
	},
	{
		name: "a shared parent",
		how: "On an ipam-standalone, 2,000 children of 50 namespaces, in turn, are allocated from a new parent that is shared with all, or each from a " +
			"new parent of its own namespace. They take turns, 9 times.",
		rows: []*row{
			{"P1", "shared", "children of 50 namespaces from a shared parent, against from one each", "x its rate", atLeast(0.85)},
			{"P1", "shared rate", "children of 50 namespaces from a shared parent", "a second", goal{}},
		},
		measure: measureShared,
	},
	{
		name: "fairness on a shared parent",
		how: "On one ipam-standalone a tenant creates one child of a shared parent each 50 ms, 300 in each of 5 rounds, first alone, and then while " +
			"another tenant has 10,000 children that wait for a larger part of the same parent, which never becomes free.",
		rows: []*row{
			{"P3", "shared p50", "create until Allocated, the one in the middle, beside 10,000 that wait, against alone", "x its time", atMost(1.5)},
			{"P3", "shared p99", "create until Allocated, 99 of 100, beside 10,000 that wait, against alone", "x its time", atMost(1.5)},
			{"P3", "shared alone", "create until Allocated, 99 of 100, alone", "ms", goal{}},
		},
		measure: measureSharedFairness,
	},
	{
		name: "in a cluster",
		how: "The product is installed behind a real kube-apiserver with the manifests of config/, as processes of which there is one of each, etcd " +
			"included, that log in as their service accounts. A user with the role edit creates 5,000 children of a new parent as in E2, " +
			"3 times. The rate is compared with that of E2 in the same run.",
		rows: []*row{
			{"E7", "cluster/alone", "children through kube-apiserver, against E2", "x its rate", atLeast(0.4)},
			{"E7", "cluster", "children through kube-apiserver", "a second", goal{}},
		},
		measure: measureCluster,
	},
	{
		name: "two controller managers",
		how: "One ipam-apiserver has one ipam-controller-manager, another one has two that both work, without leader election; each has an etcd, " +
			"which is in the process that measures. 5,000 children as in E2 on each take turns, 9 times. What is refused is what the API " +
			"server counts as answered with 409.",
		rows: []*row{
			{"E8", "two managers", "children with two controller managers at work, against with one", "x its rate", goal{}},
			{"E8", "refused", "binds that are refused with two controller managers at work", "%", goal{}},
			{"E8", "one manager", "children with one ipam-apiserver and one ipam-controller-manager", "a second", goal{}},
		},
		measure: measureManagers,
	},
	{
		name: "deletion",
		how: "5,000 children are made as in E2, then 64 clients delete them, until there is no allocation left. 3 rounds, and each is compared " +
			"with how fast its children were made.",
		rows: []*row{
			{"E9", "delete/create", "children deleted until nothing is left, against how they were made", "x its rate", atLeast(1)},
			{"E9", "delete", "children deleted until nothing is left", "a second", goal{}},
		},
		measure: measureDeletion,
	},
	{
		name: "lists",
		how: "An ipam-apiserver without controllers has so many Prefixes, which were put into its etcd before. A user lists all of them in pages " +
			"of 500, and all at once. They take turns, 3 times.",
		rows: []*row{
			{"L1", "paged/whole 100k", "list of 100,000 in pages, against all at once", "x its time", atMost(1.5)},
			{"L1", "paged 100k", "time of that in pages", "s", goal{}},
			{"L1", "paged/whole 1M", "list of 1,000,000 in pages, against all at once", "x its time", atMost(1.5)},
			{"L1", "paged 1M", "time of that in pages", "s", goal{}},
			{"L1", "linear", "time for each of 1,000,000 in pages, against each of 100,000", "x its time", atMost(1.5)},
		},
		measure: measureLists,
	},
	{
		name: "a writer beside lists",
		how: "With 100,000 Prefixes as above, a user creates 500, one every 20 ms and what the create takes, with and without three users who get " +
			"all pages of tables as kubectl does, in a loop and as fast as they come, and who decode nothing and yield to the programs, since they have " +
			"machines of their own. They take turns, 3 times.",
		rows: []*row{
			{"L2", "write beside lists", "a create beside three list loops, against without, 99 of 100", "x its time", atMost(2)},
			{"L2", "write", "a create without lists, 99 of 100", "ms", goal{}},
			{"L2", "write with lists", "a create beside three list loops, 99 of 100", "ms", goal{}},
		},
		measure: measureWriterBesideLists,
	},
	{
		name: "commands",
		how: "An ipam-apiserver without controllers has a parent with 1,000,000 children and what is allocated for them, which were put into its etcd " +
			"before. Commands of kubectl-ipam run on it as a user runs them. who looks up 9 addresses that a child has, 9 that are free, and 9 ranges. Memory is " +
			"VmHWM.",
		rows: []*row{
			{"K1", "tree", "kubectl ipam tree", "s", atMost(10)},
			{"K1", "tree memory", "most resident memory of that", "MiB", atMost(500)},
			{"K1", "tree processor", "time of a processor that it uses for that", "s", goal{}},
			{"K1", "tree server", "time of a processor that the API server uses for that", "s", goal{}},
			{"K1", "tree all", "kubectl ipam tree --all", "s", goal{}},
			{"K1", "tree all memory", "most resident memory of that", "MiB", atMost(500)},
			{"K1", "tree all processor", "time of a processor that it uses for that", "s", goal{}},
			{"K1", "tree all server", "time of a processor that the API server uses for that", "s", goal{}},
			{"K1", "who", "kubectl ipam who", "s", atMost(1)},
			{"K1", "who memory", "most resident memory of that", "MiB", atMost(500)},
			{"K1", "who server", "time of a processor that the API server uses for that", "s", goal{}},
			{"K1", "who range", "kubectl ipam who of a /24 in which they have most addresses", "s", goal{}},
			{"K1", "check", "kubectl ipam check", "s", atMost(120)},
			{"K1", "check memory", "most resident memory of that", "MiB", atMost(500)},
			{"K1", "check processor", "time of a processor that it uses for that", "s", goal{}},
			{"K1", "check server", "time of a processor that the API server uses for that", "s", goal{}},
		},
		measure: measureCommands,
	},
	{
		name: "memory by tenants",
		how: "One ipam-apiserver and one ipam-controller-manager get 1,000 children; then a Prefix is patched 700 times with 2,000 new labels each time, " +
			"3,200 children are created with 64 different selectors, and 10,000 with 3 KiB of labels while 100 watches are open " +
			"that nobody reads. Memory is VmRSS after that, and a minute later.",
		rows: []*row{
			{"M1", "server before", "resident memory of the API server before that", "MiB", goal{}},
			{"M1", "server", "resident memory of the API server right after that", "MiB", atMost(512)},
			{"M1", "server rested", "resident memory of the API server a minute later", "MiB", goal{}},
			{"M1", "manager", "resident memory of the controller manager right after that", "MiB", atMost(512)},
			{"M1", "manager rested", "resident memory of the controller manager a minute later", "MiB", goal{}},
			{"M1", "accepted", "patches that were accepted", "%", goal{}},
		},
		measure: measureTenantMemory,
	},
	{
		name: "a million children",
		how: "One ipam-apiserver and one ipam-controller-manager get 1,000,000 children of 100 parents, in turn, half of them of IPv4 and half of IPv6. " +
			"64 creators stay at most 1,024 children ahead. The first 10,000 are those after 5,000. Memory is VmRSS when the last child is Allocated. " +
			"Prefixes are looked at in etcd, the parents after each 10,000 children, and all at the end. Then " +
			"ipam-standalone is started on that directory, gets one more child, and rests for a minute.",
		rows: []*row{
			{"S1", "last/first", "the last 10,000 children against the first", "x its rate", atLeast(0.8)},
			{"S1", "exist", "children that there are then", "", goal{}},
			{"S1", "differences", "differences between objects and claims", "", atMost(0)},
			{"S1", "rate", "children of 100 parents, in all", "a second", goal{}},
			{"S1", "etcd", "size of etcd's database", "GiB", goal{}},
			{"S2", "memory small", "resident memory of API server and controller manager at a tenth of the children", "KiB a child", atMost(10)},
			{"S2", "memory", "the same at all of them", "KiB a child", atMost(10)},
			{"S2", "memory flat", "the latter against the former", "x it", atMost(1.1)},
			{"S2", "memory server", "resident memory of the API server at all of them", "KiB a child", goal{}},
			{"S2", "memory manager", "resident memory of the controller manager at all of them", "KiB a child", goal{}},
			{"S2", "memory anonymous", "resident memory of both at all of them that is not of files", "KiB a child", goal{}},
			{"S3", "ready", "ipam-standalone started on them, until it answers", "s", atMost(60)},
			{"S3", "one more", "one more child then, create until Allocated", "s", atMost(10)},
			{"S3", "standalone rested", "resident memory of ipam-standalone a minute later", "GiB", goal{}},
			{"S4", "largest", "largest Prefix in etcd", "KiB", atMost(64)},
		},
		measure: measureScale,
	},
}

// selectRows returns the measurements of the selected rows.
func selectRows(names []string) ([]measurement, error) {
	if len(names) == 0 {
		return measurements, nil
	}
	wanted := func(name string) func(*row) bool {
		return func(r *row) bool { return r.name == name || len(name) == 1 && strings.HasPrefix(r.name, name) }
	}
	for _, name := range names {
		if !slices.ContainsFunc(measurements, func(m measurement) bool { return slices.ContainsFunc(m.rows, wanted(name)) }) {
			return nil, fmt.Errorf("there is no row %q", name)
		}
	}
	var selected []measurement
	for _, m := range measurements {
		if slices.ContainsFunc(names, func(name string) bool { return slices.ContainsFunc(m.rows, wanted(name)) }) {
			selected = append(selected, m)
		}
	}
	return selected, nil
}

// list prints the rows and the methods.
func list(selected []measurement, out io.Writer) error {
	for _, m := range selected {
		if _, err := fmt.Fprintf(out, "%s\n  %s\n", m.name, m.how); err != nil {
			return err
		}
		for _, row := range m.rows {
			if _, err := fmt.Fprintf(out, "  %s  %s (%s) %s\n", row.name, row.what, row.unit, row.goal); err != nil {
				return err
			}
		}
	}
	return nil
}
