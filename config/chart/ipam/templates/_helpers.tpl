{{- /*
SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
SPDX-License-Identifier: Apache-2.0
*/ -}}

{{- /* The image of our programs. Its tag is the version of the chart, unless another one is set. */ -}}
{{- define "ipam.image" -}}
{{- $image := .Values.image -}}
{{- printf "%s/%s:%s" $image.registry $image.repository (default .Chart.AppVersion $image.tag) -}}
{{- end }}

{{- /* Where the pods of a component run. The argument is a list: the root, and the values of the component. */ -}}
{{- define "ipam.scheduling" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
priorityClassName: {{ $root.Values.priorityClassName }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Nine tenths of a memory limit in Mi or Gi. The rest is for what the Go runtime does not count. */ -}}
{{- define "ipam.goMemLimit" -}}
{{- $mebibytes := 0 -}}
{{- if hasSuffix "Gi" . -}}
{{- $mebibytes = mul (trimSuffix "Gi" . | int) 1024 -}}
{{- else -}}
{{- $mebibytes = trimSuffix "Mi" . | int -}}
{{- end -}}
{{- printf "%dMiB" (div (mul $mebibytes 9) 10) -}}
{{- end }}

{{- /* The ConfigMap of the audit policy. Its name changes with its content, so that a change restarts the servers. */ -}}
{{- define "ipam.auditName" -}}
{{- $policy := required "apiserver.auditPolicy must be set" .Values.apiserver.auditPolicy -}}
{{- printf "ipam-apiserver-audit-%s" (toYaml $policy | sha256sum | trunc 10) -}}
{{- end }}

{{- /* The endpoints of etcd, for its clients. */ -}}
{{- define "ipam.etcdServers" -}}
{{- if .Values.etcd.enabled -}}
{{- $servers := list -}}
{{- range until (int .Values.etcd.replicas) -}}
{{- $servers = append $servers (printf "https://ipam-etcd-%d.ipam-etcd.%s.svc:2379" . $.Release.Namespace) -}}
{{- end -}}
{{- join "," $servers -}}
{{- else -}}
{{- if not .Values.externalEtcd.endpoints -}}
{{- fail "externalEtcd.endpoints must be set if etcd.enabled is false" -}}
{{- end -}}
{{- join "," .Values.externalEtcd.endpoints -}}
{{- end -}}
{{- end }}

{{- /* The members of etcd, for each other. */ -}}
{{- define "ipam.etcdPeers" -}}
{{- $peers := list -}}
{{- range until (int .Values.etcd.replicas) -}}
{{- $peers = append $peers (printf "ipam-etcd-%d=https://ipam-etcd-%d.ipam-etcd.%s.svc:2380" . . $.Release.Namespace) -}}
{{- end -}}
{{- join "," $peers -}}
{{- end }}
