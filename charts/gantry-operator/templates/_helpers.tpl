{{- define "operator.fullname" -}}
{{- $name := default "gantry-operator" .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "operator.selector" -}}
app.kubernetes.io/name: gantry-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: gantry
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}{{ default (include "operator.fullname" .) .Values.serviceAccount.name }}
{{- else -}}{{ required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "operator.version" -}}
{{ default .Chart.AppVersion .Values.image.version }}
{{- end -}}

{{/* Something where the operator may serve any namespace: all, or those that are chosen by their labels. */}}
{{- define "operator.anywhere" -}}
{{- if or .Values.watch.allNamespaces .Values.watch.namespaceSelector -}}yes{{- end -}}
{{- end -}}

{{/* The namespaces that are served, separated by commas; nothing where that may be any. */}}
{{- define "operator.namespaces" -}}
{{- if not (include "operator.anywhere" .) -}}
{{- join "," (default (list .Release.Namespace) .Values.watch.namespaces) -}}
{{- end -}}
{{- end -}}

{{/* The rules of one document of files/rbac.yaml. */}}
{{- define "operator.rules" -}}
{{- range splitList "\n---\n" (.root.Files.Get "files/rbac.yaml") -}}
{{- $role := fromYaml . -}}
{{- if eq $role.metadata.name $.name }}
rules:
{{- toYaml $role.rules | nindent 2 }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The labels of one document of files/rbac.yaml. */}}
{{- define "operator.roleLabels" -}}
{{- range splitList "\n---\n" (.root.Files.Get "files/rbac.yaml") -}}
{{- $role := fromYaml . -}}
{{- if eq $role.metadata.name $.name }}
{{- toYaml $role.metadata.labels }}
{{- end -}}
{{- end -}}
{{- end -}}
