{{- define "kthena.labels" -}}
helm.sh/chart: {{ include "kthena.labelValue" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ include "kthena.labelValue" .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: kthena
{{ include "kthena.selector" . }}
{{- with .root.Values.global.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* A version may have a plus and any length, a label's value may not, nor end in a sign. */ -}}
{{- define "kthena.labelValue" -}}
{{- regexReplaceAll "[^A-Za-z0-9]+$" (. | replace "+" "_" | trunc 63) "" -}}
{{- end }}

{{- /* What never changes: a Deployment's selector is immutable. */ -}}
{{- define "kthena.selector" -}}
app.kubernetes.io/name: {{ .name | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- end }}

{{- define "kthena.image" -}}
{{- $image := .image -}}
{{- $repository := $image.repository -}}
{{- with .root.Values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (base $image.repository) -}}
{{- end -}}
{{- if $image.digest -}}
{{ $repository }}@{{ $image.digest }}
{{- else -}}
{{ $repository }}:{{ $image.tag | default (.root.Chart.AppVersion | replace "+" "_") }}
{{- end -}}
{{- end }}

{{- /* An address and a port; IPv6 in brackets. */ -}}
{{- define "kthena.listen" -}}
{{- if contains ":" .address -}}[{{ .address }}]:{{ .port }}{{- else -}}{{ .address }}:{{ .port }}{{- end -}}
{{- end }}

{{- define "kthena.families" -}}
{{- with .Values.global.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.global.ipFamilies }}
ipFamilies: {{ toJson . }}
{{- end }}
{{- end }}

{{- /* What places pods, from a workload's block. */ -}}
{{- define "kthena.placement" -}}
{{- /* Every image is one of Linux. */}}
nodeSelector: {{- merge (dict) (.block.nodeSelector | default dict) (dict "kubernetes.io/os" "linux") | toYaml | nindent 2 }}
{{- with .block.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .block.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .block.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{- define "kthena.spread" -}}
topologySpreadConstraints:
{{- if .block.topologySpreadConstraints }}
{{ toYaml .block.topologySpreadConstraints }}
{{- else }}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "kthena.selector" $ | nindent 6 }}
  # A revision's pods among themselves, or the old ones' places would be left empty.
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
{{- end }}

{{- define "kthena.podLabels" -}}
{{- /* Without versions: who is of another one only by his labels need not be replaced. Merged, for YAML has a key once, and global.commonLabels may have
     the same one. */ -}}
{{ mergeOverwrite (omit (include "kthena.labels" . | fromYaml) "helm.sh/chart" "app.kubernetes.io/version" "app.kubernetes.io/managed-by") (.block.podLabels | default dict) | toYaml }}
{{- end }}

{{- define "kthena.monitoringLabels" -}}
{{ mergeOverwrite (include "kthena.labels" . | fromYaml) (.root.Values.monitoring.labels | default dict) | toYaml }}
{{- end }}

{{- /* Fills in what the values lack, as after `helm upgrade --reuse-values` from a chart that did not have the key: then helm has only that chart's
     defaults. Each template says it first, for nobody says which is rendered first. */ -}}
{{- define "kthena.complete" -}}
{{- include "kthena.fill" (dict "into" .Values "from" (.Files.Get "files/defaults.yaml" | fromYaml)) -}}
{{- end }}

{{- define "kthena.fill" -}}
{{- /* Who takes these away, as `--set gateway.resources.limits=null` does, wants none. */ -}}
{{- $may_lack := list "affinity" "nodeSelector" "podSecurityContext" "priorityClassName" "resources" "securityContext" "tolerations" "topologySpreadConstraints" -}}
{{- /* What is in these is the user's alone. */ -}}
{{- $whole := list "annotations" "commonLabels" "config" "labels" "podAnnotations" "podLabels" "podSecurityContext" "securityContext" -}}
{{- range $key, $default := .from -}}
{{- /* Taken away by null, it is gone at first, and null once the values are used again. */ -}}
{{- if and (hasKey $.into $key) (kindIs "invalid" (get $.into $key)) }}{{ $_ := unset $.into $key }}{{ end -}}
{{- if not (hasKey $.into $key) -}}
{{- if not (has $key $may_lack) -}}{{- $_ := set $.into $key $default -}}{{- end -}}
{{- else if has $key (concat $may_lack $whole) -}}
{{- include "kthena.prune" (get $.into $key) -}}
{{- else if and (kindIs "map" $default) (kindIs "map" (get $.into $key)) -}}
{{- include "kthena.fill" (dict "into" (get $.into $key) "from" $default) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* Takes what is null out of a map, however deep. */ -}}
{{- define "kthena.prune" -}}
{{- if kindIs "map" . -}}
{{- range $key, $value := deepCopy . -}}
{{- if kindIs "invalid" $value }}{{ $_ := unset $ $key }}{{ else }}{{ include "kthena.prune" (get $ $key) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end }}
