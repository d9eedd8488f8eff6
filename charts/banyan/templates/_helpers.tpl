{{- define "banyan.selector" -}}
app.kubernetes.io/name: banyan
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "banyan.authoritySelector" -}}
app.kubernetes.io/name: banyan-authority
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "banyan.labels" -}}
{{ include "banyan.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "banyan.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- /* The notifications as the operator reads them: the address of each is written there, or stands in a file of a Secret. */ -}}
{{- define "banyan.notifications" -}}
{{- $all := list }}
{{- range .Values.notifications }}
{{- $one := omit . "urlFrom" }}
{{- if .urlFrom }}{{ $one = set $one "urlFile" (printf "/var/run/secrets/notifications/%s" .name) }}{{ end }}
{{- $all = append $all $one }}
{{- end }}
{{- toJson $all }}
{{- end }}

{{- define "banyan.notificationSecrets" -}}
{{- range .Values.notifications }}
{{- with .urlFrom }}yes{{ end }}
{{- end }}
{{- end }}
