{{/* The NameServerSet that everything here refers to. */}}
{{- define "gantry.nameServer" -}}
{{- if .Values.existingNameServer -}}{{ .Values.existingNameServer }}
{{- else -}}{{ default .Release.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "gantry.labels" -}}
app.kubernetes.io/name: gantry
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: gantry
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
