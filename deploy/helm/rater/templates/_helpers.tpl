{{- define "rater.labels" -}}
app.kubernetes.io/name: rater
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "rater.selector" -}}
app.kubernetes.io/name: rater
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "rater.toml" -}}
# Written by the chart from `settings`, `sources` and `admin.settings` of its values.
{{- $own := dict "metrics" (dict "host" "0.0.0.0" "port" 9464) "logs" (dict "format" "json") }}
{{- range $section, $keys := mergeOverwrite $own (deepCopy .Values.settings) }}

[{{ $section }}]
{{- range $key, $value := $keys }}
{{ $key }} = {{ $value | toJson }}
{{- end }}
{{- end }}
{{- with .Values.sources }}

{{ . }}
{{- end }}
{{- if .Values.admin.enabled }}

{{ .Values.admin.settings }}
{{- end }}
{{- end }}

{{- /* A pod of rater: root, component, args, resources, grace; probes where it serves; keeps: the volume of what it writes. */ -}}
{{- define "rater.pod" -}}
metadata:
  labels:
    {{- include "rater.selector" . | nindent 4 }}
  annotations:
    # Other settings, other pods.
    checksum/settings: {{ include "rater.toml" .root | sha256sum }}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: {{ .grace }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets: {{ toJson . }}
  {{- end }}
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  {{- if .restart }}
  restartPolicy: {{ .restart }}
  {{- end }}
  containers:
    - name: rater
      image: "{{ .root.Values.image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}"
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: {{ concat (list "--config" "/etc/rater/rater.toml") .args | toJson }}
      {{- if .serves }}
      ports:
        - {name: metrics, containerPort: {{ .port | default 9464 }}}
      # It answers from the loop that rates. Not ready is no reason to restart: it waits for Kafka and Redis by itself.
      livenessProbe:
        httpGet: {path: /livez, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        periodSeconds: 5
        timeoutSeconds: 5
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      resources: {{ toJson .resources }}
      volumeMounts:
        - {name: settings, mountPath: /etc/rater, readOnly: true}
        {{- if .root.Values.secretName }}
        - {name: secrets, mountPath: /run/secrets/rater, readOnly: true}
        {{- end }}
        {{- if .keeps }}
        - {name: kept, mountPath: /var/lib/rater}
        {{- end }}
  volumes:
    - name: settings
      configMap: {name: {{ .settings }}}
    {{- with .root.Values.secretName }}
    - name: secrets
      secret: {secretName: {{ . }}, defaultMode: 288}
    {{- end }}
    {{- with .keeps }}
    - name: kept
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
