# shellcheck shell=bash
# The kustomization of this cluster: the manifests of deploy/base, and what kURL and this machine add.

# Where distributions keep the authorities that they trust.
VELERO_CA_FILES=(
    /etc/ssl/certs/ca-certificates.crt
    /etc/pki/tls/certs/ca-bundle.crt
    /etc/ssl/ca-bundle.pem
    /etc/pki/tls/cacert.pem
    /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem
    /etc/ssl/cert.pem
)
# More than this does not fit into a ConfigMap.
VELERO_CA_MAX=1000000
# Where node ports for downloads are looked for. kURL's range begins at 80: a port of the cluster's choice might be one that
# something on the node listens on.
VELERO_PORT_FIRST=30771
VELERO_PORT_LAST=30799

function velero_render() {
    local src="$DIR/addons/velero/$VELERO_VERSION"
    local dst="$DIR/kustomize/velero"
    local image
    image=$(awk '$1 == "image" { print $3; exit }' "$src/Manifest")
    rm -rf "$dst"
    mkdir -p "$dst"
    cp -R "$src/base" "$src/crds" "$dst/"

    VELERO_RESOURCES=(base)
    VELERO_PATCHES=()
    velero_render_support_bundle "$dst"
    velero_render_restore_config "$dst"
    velero_render_storage_class "$dst"
    velero_render_ca "$dst"
    velero_render_coordinator "$dst"
    velero_render_agent "$dst"
    velero_render_downloads "$dst"

    local one
    {
        echo "apiVersion: kustomize.config.k8s.io/v1beta1"
        echo "kind: Kustomization"
        if [ "$VELERO_NAMESPACE" != velero ]; then
            echo "namespace: $VELERO_NAMESPACE"
        fi
        echo "resources:"
        for one in "${VELERO_RESOURCES[@]}"; do
            echo "- $one"
        done
        echo "images:"
        echo "- name: localhost/orlop"
        echo "  newName: ${image%:*}"
        echo "  newTag: $(velero_quoted "${image##*:}")"
        echo "patches:"
        for one in "${VELERO_PATCHES[@]}"; do
            echo "- path: $one"
            if [ "$one" = flags.yaml ]; then
                echo "  target: {group: apps, version: v1, kind: Deployment, name: velero}"
            fi
        done
    } > "$dst/kustomization.yaml"
}

# A ConfigMap's beginning: velero_config_map NAME [LABEL=VALUE…]
function velero_config_map() {
    local name="$1"
    shift
    cat <<YAML
apiVersion: v1
kind: ConfigMap
metadata:
  name: $name
  namespace: $VELERO_NAMESPACE
  labels:
    component: velero
YAML
    local label
    for label in "$@"; do
        echo "    ${label%%=*}: $(velero_quoted "${label#*=}")"
    done
    echo "data:"
}

# What a support bundle takes along.
function velero_render_support_bundle() {
    {
        velero_config_map kurl-velero-supportbundle-spec troubleshoot.io/kind=support-bundle
        cat <<YAML
  support-bundle-spec: |
    apiVersion: troubleshoot.sh/v1beta2
    kind: SupportBundle
    metadata:
      name: velero
    spec:
      collectors:
      - clusterResources: {}
      - logs:
          namespace: $VELERO_NAMESPACE
          name: velero/logs
      analyzers:
      - deploymentStatus:
          name: velero
          namespace: $VELERO_NAMESPACE
          outcomes:
          - fail:
              when: "< 1"
              message: The coordinator of backups does not run.
          - pass:
              message: The coordinator of backups runs.
YAML
    } > "$1/support-bundle.yaml"
    VELERO_RESOURCES+=(support-bundle.yaml)
}

# A backup of the Admin Console has the proxies and certificates of the machine where it was made: restores put in those of this one.
function velero_render_restore_config() {
    {
        velero_config_map kotsadm-restore-config \
            velero.io/plugin-config= kurl.sh/restore-kotsadm-plugin=RestoreItemAction
        echo "  HTTP_PROXY: $(velero_quoted "$PROXY_ADDRESS")"
        echo "  HTTPS_PROXY: $(velero_quoted "${PROXY_HTTPS_ADDRESS:-$PROXY_ADDRESS}")"
        echo "  NO_PROXY: $(velero_quoted "$NO_PROXY_ADDRESSES")"
        echo "  hostCAPath: $(velero_quoted "$KOTSADM_TRUSTED_CERT_MOUNT")"
    } > "$1/kotsadm-restore-config.yaml"
    VELERO_RESOURCES+=(kotsadm-restore-config.yaml)
}

# Backups of clusters whose storage class is called "default" find Longhorn's.
function velero_render_storage_class() {
    local default
    default=$(velero_kubectl get storageclass longhorn --ignore-not-found \
        -o 'jsonpath={.metadata.annotations.storageclass\.kubernetes\.io/is-default-class}')
    if [ "$default" != true ]; then
        return 0
    fi
    {
        velero_config_map change-storage-class-config \
            velero.io/plugin-config= velero.io/change-storage-class=RestoreItemAction
        echo "  default: longhorn"
    } > "$1/change-storage-class.yaml"
    VELERO_RESOURCES+=(change-storage-class.yaml)
}

# The authorities that this machine and the Admin Console trust, which the image cannot know.
function velero_render_ca() {
    VELERO_CA_SUM=
    local file="$KOTSADM_TRUSTED_CERT_MOUNT"
    local one
    for one in "${VELERO_CA_FILES[@]}"; do
        if [ -s "$file" ]; then
            break
        fi
        file="$one"
    done
    if [ ! -s "$file" ]; then
        return 0
    fi
    local private certificates
    private=$(velero_kubectl -n default get configmap kotsadm-private-cas --ignore-not-found \
        -o 'go-template={{range .data}}{{.}}{{"\n"}}{{end}}')
    # Certificates alone: some bundles describe them at length.
    certificates=$({ cat "$file"; echo; echo "$private"; } | tr -d '\r' | awk '
        /^-----BEGIN (TRUSTED )?CERTIFICATE-----$/ { inside = /^-----BEGIN CERTIFICATE/ }
        inside { print "    " $0 }
        /^-----END/ { inside = 0 }
    ')
    if [ -z "$certificates" ]; then
        logWarn "There are no certificates in $file: the coordinator trusts those of its image"
        return 0
    fi
    if [ "${#certificates}" -gt "$VELERO_CA_MAX" ]; then
        logWarn "$file is too large for a ConfigMap: the coordinator trusts the authorities of its image. Others go into caCert of a location"
        return 0
    fi
    {
        velero_config_map orlop-host-ca
        echo "  ca-bundle.pem: |"
        echo "$certificates"
    } > "$1/host-ca.yaml"
    VELERO_CA_SUM=$(echo "$certificates" | sha256sum | cut -d ' ' -f 1)
    VELERO_RESOURCES+=(host-ca.yaml)
}

# Whom the proxy is not asked for: kURL's list, and the object store.
function velero_no_proxy() {
    local list="${NO_PROXY_ADDRESSES:-localhost,127.0.0.1,.svc,.local}"
    local host="${OBJECT_STORE_CLUSTER_HOST#*://}"
    if [ -n "$host" ]; then
        list="$list,${host%%[:/]*}"
    fi
    if [ -n "$OBJECT_STORE_CLUSTER_IP" ]; then
        list="$list,$OBJECT_STORE_CLUSTER_IP"
    fi
    echo "$list"
}

# The coordinator: proxies, certificates, its node, flags.
function velero_render_coordinator() {
    local http="$PROXY_ADDRESS" https="${PROXY_HTTPS_ADDRESS:-$PROXY_ADDRESS}"
    local node
    node=$(velero_directory_node) || bail "Cannot find out where backups are kept"
    {
        cat <<YAML
apiVersion: apps/v1
kind: Deployment
metadata:
  name: velero
  namespace: velero
spec:
  template:
YAML
        if [ -n "$VELERO_CA_SUM" ]; then
            # Other certificates: another pod.
            cat <<YAML
    metadata:
      annotations:
        orlop.io/host-ca: $VELERO_CA_SUM
YAML
        fi
        echo "    spec:"
        if [ -n "$node" ]; then
            echo "      nodeSelector:"
            echo "        kubernetes.io/hostname: $(velero_quoted "$node")"
        fi
        echo "      containers:"
        echo "      - name: velero"
        if [ -n "$http$https$VELERO_CA_SUM" ]; then
            echo "        env:"
        fi
        if [ -n "$http" ]; then
            velero_env HTTP_PROXY "$http"
        fi
        if [ -n "$https" ]; then
            velero_env HTTPS_PROXY "$https"
        fi
        if [ -n "$http$https" ]; then
            velero_env NO_PROXY "$(velero_no_proxy)"
        fi
        if [ -n "$VELERO_CA_SUM" ]; then
            velero_env SSL_CERT_FILE /etc/orlop/host-ca/ca-bundle.pem
            cat <<YAML
        volumeMounts:
        - name: host-ca
          mountPath: /etc/orlop/host-ca
          readOnly: true
      volumes:
      - name: host-ca
        configMap:
          name: orlop-host-ca
YAML
        fi
    } > "$1/coordinator.yaml"
    VELERO_PATCHES+=(coordinator.yaml)

    if [ -n "$VELERO_SERVER_FLAGS" ]; then
        local flag
        velero_server_flags | while read -r flag; do
            echo "- op: add"
            echo "  path: /spec/template/spec/containers/0/args/-"
            echo "  value: $(velero_quoted "$flag")"
        done > "$1/flags.yaml"
        VELERO_PATCHES+=(flags.yaml)
    fi
}

function velero_env() {
    echo "        - name: $1"
    echo "          value: $(velero_quoted "$2")"
}

# The node whose directory holds the backups, as long as the location is still that directory. Fails if nobody can say.
function velero_directory_node() {
    local provider path ours
    provider=$(velero_read backupstoragelocation default '{.spec.provider}') || return 1
    path=$(velero_read backupstoragelocation default '{.spec.config.path}') || return 1
    ours=$(velero_read backupstoragelocation default '{.metadata.annotations.orlop\.io/directory-path}') || return 1
    if [ "$provider" = replicated.com/hostpath ] && [ -n "$ours" ] && [ "$path" = "$ours" ]; then
        velero_read backupstoragelocation default '{.metadata.annotations.orlop\.io/directory-node}'
    fi
}

# The agents: none if the installer wants no backups of volumes, privileged ones if it says that they must be.
function velero_render_agent() {
    if [ "$VELERO_DISABLE_RESTIC" != 1 ] && [ "$VELERO_RESTIC_REQUIRES_PRIVILEGED" != 1 ]; then
        return 0
    fi
    {
        cat <<YAML
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: node-agent
  namespace: velero
YAML
        if [ "$VELERO_DISABLE_RESTIC" = 1 ]; then
            # shellcheck disable=SC2016 # It is kustomize's.
            echo '$patch: delete'
        else
            cat <<YAML
spec:
  template:
    spec:
      containers:
      - name: node-agent
        securityContext:
          privileged: true
          allowPrivilegeEscalation: true
YAML
        fi
    } > "$1/agent.yaml"
    VELERO_PATCHES+=(agent.yaml)
}

# The port of downloads, on every node: the one that it has, or a free one.
function velero_downloads_port() {
    local port taken
    port=$(velero_read service orlop-downloads '{.spec.ports[0].nodePort}') || return 1
    if [ -n "$port" ]; then
        echo "$port"
        return 0
    fi
    taken=$(velero_kubectl get services --all-namespaces -o 'jsonpath={.items[*].spec.ports[*].nodePort}') || return 1
    for ((port = VELERO_PORT_FIRST; port <= VELERO_PORT_LAST; port++)); do
        case " $taken " in
            *" $port "*) ;;
            *)
                echo "$port"
                return 0
                ;;
        esac
    done
    logFail "Node ports $VELERO_PORT_FIRST to $VELERO_PORT_LAST are all taken: free one of them"
    return 1
}

function velero_render_downloads() {
    local port
    port=$(velero_downloads_port) || bail "There is no node port for downloads of backups"
    cat > "$1/downloads.yaml" <<YAML
apiVersion: v1
kind: Service
metadata:
  name: orlop-downloads
  namespace: velero
spec:
  ports:
  - name: downloads
    port: 7071
    nodePort: $port
YAML
    VELERO_PATCHES+=(downloads.yaml)
}
