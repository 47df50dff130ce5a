{{- define "celeryscope.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "celeryscope.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "celeryscope.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "celeryscope.selectorLabels" -}}
app.kubernetes.io/name: {{ include "celeryscope.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "celeryscope.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "celeryscope.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "celeryscope.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "celeryscope.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "celeryscope.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- /* The secret that holds the broker's URL; empty where env or extraArgs name the broker. */}}
{{- define "celeryscope.brokerSecret" -}}
{{- if .Values.broker.existingSecret.name }}
{{- .Values.broker.existingSecret.name }}
{{- else if .Values.broker.url }}
{{- printf "%s-broker" (include "celeryscope.fullname" . | trunc 56 | trimSuffix "-") }}
{{- end }}
{{- end }}

{{- /* A probe: over HTTP, or by the image's own program where the page has TLS or asks for a password. */}}
{{- define "celeryscope.probe" -}}
{{- if .root.Values.web.existingSecret.name }}
exec:
  command: [python, -m, celeryscope.healthcheck, {{ .question }}]
{{- else }}
httpGet:
  path: /-/{{ .question }}
  port: metrics
{{- end }}
{{ toYaml .timing }}
{{- end }}
