{{- define "graphpipe.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "graphpipe.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "graphpipe.labels" -}}
{{ include "graphpipe.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* The grace, the drain, and some seconds more. */ -}}
{{- define "graphpipe.endSeconds" -}}
{{- $grace := 1.0 -}}
{{- $drain := 30.0 -}}
{{- if hasKey .Values.settings "drain-grace-s" -}}{{- $grace = index .Values.settings "drain-grace-s" -}}{{- end -}}
{{- if hasKey .Values.settings "drain-timeout-s" -}}{{- $drain = index .Values.settings "drain-timeout-s" -}}{{- end -}}
{{- addf $grace $drain 10 | ceil | int -}}
{{- end -}}
