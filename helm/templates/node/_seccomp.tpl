{{- /* What is done to the node's folder of profiles, install or remove: {root, act}. */ -}}
{{- define "kthena.node.seccomp" -}}
{{- $node := .root.Values.node -}}
- name: {{ .act }}-seccomp
  image: {{ include "kthena.image" (dict "root" .root "image" $node.image) }}
  imagePullPolicy: {{ $node.image.pullPolicy }}
  args: [install-seccomp, --folder=/host/seccomp{{ if eq .act "remove" }}, --remove{{ end }}]
  resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
  securityContext:
    runAsNonRoot: false
    runAsUser: 0
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
    seccompProfile: {type: RuntimeDefault}
  volumeMounts:
  - {name: seccomp, mountPath: /host/seccomp}
{{- end }}

{{- define "kthena.node.profiles" -}}
- name: seccomp
  hostPath: {path: {{ printf "%s/seccomp" (trimSuffix "/" .Values.node.ioUring.kubeletRoot) | quote }}, type: DirectoryOrCreate}
{{- end }}
