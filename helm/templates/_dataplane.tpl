{{- /* What gateway and node have in common: {root, block, name}. */ -}}

{{- define "kthena.dataplane.seccomp" -}}
{{- if eq .block.ioUring.seccomp "localhost" -}}
seccompProfile: {type: Localhost, localhostProfile: {{ .block.ioUring.localhostProfile | quote }}}
{{- else if eq .block.ioUring.seccomp "unconfined" -}}
seccompProfile: {type: Unconfined}
{{- else -}}
seccompProfile: {type: RuntimeDefault}
{{- end -}}
{{- end }}

{{- define "kthena.dataplane.args" -}}
- --control-plane=https://kthena-controlplane.{{ .root.Release.Namespace }}.svc:{{ .root.Values.controlplane.port }}
- --control-plane-ca=/etc/kthena/identity/ca.crt
- --control-plane-token=/etc/kthena/identity/token
- --state-dir=/var/lib/kthena
- --config=/etc/kthena/config/config.yaml
- "--bind={{ .root.Values.global.listenAddress }}"
- --port={{ .block.port }}
- --metrics-port={{ .block.metricsPort }}
{{- if eq .exposure "hostNetwork" }}
- --admin-socket=/run/kthena/admin.sock
{{- else }}
- --debug-port={{ .block.debugPort }}
{{- end }}
- --io-driver={{ .block.ioDriver }}
- --cores={{ .block.cores }}
{{- range .block.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{- /* Looks at settings and node as the data plane would meet them: of its image, with its arguments, under its profile, with its share of
     the CPUs and in its environment. It fails only where the data plane would not start. */ -}}
{{- define "kthena.dataplane.doctor" -}}
- name: doctor
  image: {{ include "kthena.image" (dict "root" .root "image" .block.image) }}
  imagePullPolicy: {{ .block.image.pullPolicy }}
  args:
  - doctor
  - --lenient
  {{- include "kthena.dataplane.args" . | nindent 2 }}
  {{- with .block.extraEnv }}
  env: {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .block.resources }}
  resources: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- with .block.securityContext }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- include "kthena.dataplane.seccomp" . | nindent 4 }}
  volumeMounts:
  - {name: config, mountPath: /etc/kthena/config, readOnly: true}
{{- end }}

{{- define "kthena.dataplane.container" -}}
- name: dataplane
  image: {{ include "kthena.image" (dict "root" .root "image" .block.image) }}
  imagePullPolicy: {{ .block.image.pullPolicy }}
  args:
  {{- include "kthena.dataplane.args" . | nindent 2 }}
  env:
  - name: NODE_NAME
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
  - name: POD_NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  {{- with .block.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- /* With hostNetwork a declared port would keep a second pod off the node while the first one ends its streams. */}}
  {{- if ne .exposure "hostNetwork" }}
  ports:
  - {name: http, containerPort: {{ .block.port }}, protocol: TCP{{ if eq .exposure "hostPort" }}, hostPort: {{ .block.port }}{{ end }}}
  - {name: metrics, containerPort: {{ .block.metricsPort }}, protocol: TCP}
  {{- end }}
  {{- if eq .exposure "hostNetwork" }}
  {{- /* A port of the node would be answered by either of two pods, the one that comes and the one that goes. */}}
  startupProbe:
    exec: {command: [/usr/bin/kthena-dataplane, probe, --timeout=4, --admin-socket=/run/kthena/admin.sock, /healthz]}
    periodSeconds: 1
    timeoutSeconds: 5
    failureThreshold: 30
  livenessProbe:
    exec: {command: [/usr/bin/kthena-dataplane, probe, --timeout=4, --admin-socket=/run/kthena/admin.sock, /healthz]}
    periodSeconds: 5
    timeoutSeconds: 5
    failureThreshold: 6
  readinessProbe:
    exec: {command: [/usr/bin/kthena-dataplane, probe, --timeout=4, --admin-socket=/run/kthena/admin.sock, /readyz]}
    periodSeconds: 2
    timeoutSeconds: 5
    failureThreshold: 3
  {{- else }}
  startupProbe:
    httpGet: {path: /healthz, port: {{ .block.metricsPort }}}
    periodSeconds: 1
    failureThreshold: 30
  livenessProbe:
    httpGet: {path: /healthz, port: {{ .block.metricsPort }}}
    periodSeconds: 5
    timeoutSeconds: 5
    failureThreshold: 6
  readinessProbe:
    httpGet: {path: /readyz, port: {{ .block.metricsPort }}}
    periodSeconds: 2
    timeoutSeconds: 2
    failureThreshold: 3
  {{- end }}
  {{- with .block.resources }}
  resources: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- with .block.securityContext }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- include "kthena.dataplane.seccomp" . | nindent 4 }}
  volumeMounts:
  - {name: identity, mountPath: /etc/kthena/identity, readOnly: true}
  - {name: config, mountPath: /etc/kthena/config, readOnly: true}
  - {name: state, mountPath: /var/lib/kthena}
  {{- if eq .exposure "hostNetwork" }}
  - {name: admin, mountPath: /run/kthena}
  {{- end }}
  {{- with .block.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "kthena.dataplane.settings" -}}
- name: config
  configMap: {name: {{ .block.name }}-settings}
{{- end }}

{{- define "kthena.dataplane.volumes" -}}
- name: identity
  projected:
    # 0444, which not every reader of YAML takes for octal: of everybody in the pod, whoever podSecurityContext says that is.
    defaultMode: 292
    sources:
    - serviceAccountToken: {audience: kthena-controlplane, expirationSeconds: 3600, path: token}
    # Empty until the control plane has filled it.
    - configMap: {name: kthena-controlplane-ca, optional: true}
{{ include "kthena.dataplane.settings" . }}
- name: state
  emptyDir: {sizeLimit: 1Gi}
{{- if eq .exposure "hostNetwork" }}
- name: admin
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end }}
{{- with .block.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Kubernetes itself takes a terminating pod out of Services, and a pod that is not ready is dropped by Local ones. */ -}}
{{- define "kthena.dataplane.config" -}}
{{- $drain := dict "readiness" "keep" "lead" "10s" "deadline" (printf "%ds" (sub (int .block.terminationGracePeriodSeconds) 20)) -}}
{{- $ours := dict "drain" $drain -}}
{{- /* Two pods of a node share its port while the one takes over: the new one has no share of it before it has routes. */ -}}
{{- if eq .exposure "hostNetwork" }}{{ $_ := set $ours "listen_when" "loaded" }}{{ end -}}
{{- toYaml (mergeOverwrite $ours (deepCopy .block.config)) -}}
{{- end }}

{{- /* Whether a key, with dots, is in the file besides: {block, key}. */ -}}
{{- define "kthena.dataplane.says" -}}
{{- $at := .block.config -}}
{{- range splitList "." .key -}}
{{- if kindIs "map" $at }}{{ $at = get $at . }}{{ else }}{{ $at = "" }}{{ end -}}
{{- end -}}
{{- if not (or (kindIs "invalid" $at) (eq (toString $at) "")) }}true{{ end -}}
{{- end }}

{{- define "kthena.dataplane.common" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .name | quote }}
  namespace: {{ .root.Release.Namespace | quote }}
  labels: {{- include "kthena.labels" . | nindent 4 }}
  {{- with .block.serviceAccount.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .name }}-settings
  namespace: {{ .root.Release.Namespace | quote }}
  labels: {{- include "kthena.labels" . | nindent 4 }}
data:
  config.yaml: |
    {{- include "kthena.dataplane.config" . | nindent 4 }}
{{- end }}

{{- /* A duration as the data plane takes it (1m30s) in seconds; what is none is for the data plane to refuse. */ -}}
{{- define "kthena.seconds" -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9.]+(ns|us|µs|ms|s|m|h)" . -1 -}}
{{- $of := dict "ns" 0.000000001 "us" 0.000001 "µs" 0.000001 "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 -}}
{{- $sum = addf $sum (mulf (regexFind "^[0-9.]+" . | float64) (index $of (regexFind "[a-zµ]+$" .))) -}}
{{- end -}}
{{- $sum -}}
{{- end }}
