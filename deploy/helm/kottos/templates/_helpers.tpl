{{- define "kottos.name" -}}
{{ printf "%s-%s" .root.Release.Name .part | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "kottos.selector" -}}
app.kubernetes.io/name: kottos
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "kottos.labels" -}}
{{ include "kottos.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "kottos.image" -}}
{{ with .root.Values.image.registry }}{{ . }}/{{ end }}kottos/{{ .image }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "kottos.secret" -}}
{{ .Values.existingSecret | default (include "kottos.name" (dict "root" . "part" "secrets")) }}
{{- end }}

{{- define "kottos.cacheClaim" -}}
{{ .Values.cache.existingClaim | default (include "kottos.name" (dict "root" . "part" "cache")) }}
{{- end }}

{{- /* enableServiceLinks would give pods KOTTOS_GATEWAY_PORT and the like, which are settings here. */}}
{{- define "kottos.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "kottos.place" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "kottos.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "kottos.variables" -}}
- {name: KOTTOS_BUS_URL, value: {{ .root.Values.nats.url | default (printf "nats://%s:4222" (include "kottos.name" (dict "root" .root "part" "nats"))) | quote }}}
- {name: KOTTOS_BUS_USER, value: {{ .user }}}
- name: KOTTOS_BUS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "kottos.secret" .root }}, key: bus_{{ .user }}}}
- {name: KOTTOS_CACHE, value: /var/cache/kottos}
- {name: KOTTOS_STATE_DIR, value: /var/lib/kottos}
- {name: KOTTOS_LOG_LEVEL, value: {{ .root.Values.logLevel }}}
- {name: KOTTOS_WORKER_DTYPE, value: {{ .root.Values.dtype }}}
- {name: KOTTOS_TELEMETRY_METRICS_HOST, value: 0.0.0.0}
- {name: KOTTOS_TELEMETRY_METRICS_PORT, value: "9464"}
- {name: HF_HOME, value: /var/cache/kottos/hub}
{{- with .root.Values.otlpEndpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- range $name, $value := .root.Values.settings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- /* An import, or a model from a slow disk, may take this long before the first answer. */}}
{{- define "kottos.probes" -}}
startupProbe:
  httpGet: {path: /health, port: {{ . }}}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /health, port: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 6
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /ready, port: {{ . }}}
  periodSeconds: 5
  timeoutSeconds: 6
{{- end }}
