{{- /* How many pods of the DaemonSet are replaced at once: {maxUnavailable, maxSurge}. Kubernetes takes one of the two. */ -}}
{{- define "kthena.node.update" -}}
{{- $asked := .updateStrategy -}}
{{- $surge := ternary "0" (toString $asked.maxSurge) (has (toString $asked.maxSurge) (list "" "0%")) -}}
{{- $away := ternary "0" (toString $asked.maxUnavailable) (has (toString $asked.maxUnavailable) (list "" "0%")) -}}
{{- if not (cat $asked.maxSurge $asked.maxUnavailable | trim) -}}
{{- /* A hostPort belongs to one pod: the old one has to go first. */ -}}
{{- if eq .exposure "hostPort" }}{{ $away = "1" }}{{ else }}{{ $surge = "1" }}{{ end -}}
{{- end -}}
{maxUnavailable: {{ $away }}, maxSurge: {{ $surge }}}
{{- end }}
