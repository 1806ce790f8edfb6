# SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
# SPDX-License-Identifier: Apache-2.0

# Turns the output of `kubectl get prefixes,prefixallocations,prefixpolicies -o json` into two lists that can be applied
# elsewhere: .allocated is what held addresses, .waiting is what waited for some, after the policies.
# docs/operating/backup.md tells how to use it.

def isRoot: .kind == "Prefix" and .spec.parentRef == null and .spec.parentSelector == null;

# A child that asks for one prefix and waits for it holds nothing.
def holds: isRoot or .status.phase == "Allocated";

# The controllers make the allocations of children again.
def ofChild: any(.metadata.ownerReferences[]?; .controller == true and .kind == "Prefix");

# Roots come first, then the larger prefixes.
def rank: if .kind != "Prefix" then 1000 elif isRoot then 0
  else (.spec.prefix // "/999" | split("/")[1] | tonumber) end;

def stripped:
  # An allocation that stands for itself asks for exactly what it held.
  (if .kind == "PrefixAllocation" and .status.phase == "Allocated" then .spec.prefix = .status.prefix | del(.spec.prefixLength) else . end)
  | del(.status, .metadata.uid, .metadata.resourceVersion, .metadata.creationTimestamp, .metadata.generation, .metadata.managedFields, .metadata.selfLink);

def list: {apiVersion: "v1", kind: "List", items: map(stripped)};

[.items[] | select(.metadata.deletionTimestamp == null and (.kind == "Prefix" or (ofChild | not)))]
| {allocated: (map(select(holds)) | sort_by(rank) | list), waiting: (map(select(holds | not)) | sort_by(.kind != "PrefixPolicy") | list)}
