#!/bin/sh
# Makes the secrets that compose.yaml mounts: sh deploy/secrets.sh [FOLDER]. What is there stays.
#
#   bus_USER         password of a bus user (PERMISSIONS in shared/subjects.py)
#   passwords.conf   all of them, for the NATS server
#   api_keys         NAME=KEY of the first API key;  admin_key: an administrator's
#   grafana_admin    password of Grafana's admin
#
# Others can't enter the folder. The files in it are readable, as containers mount them as they are and run as a user
# that this machine does not know.
set -eu

folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

keep() { # NAME, content: unless the file is there
    [ -s "$1" ] || { printf '%s' "$2" >"$1.new" && chmod 444 "$1.new" && mv "$1.new" "$1"; }
}

conf=""
for user in gateway router worker steward operator client; do
    keep "bus_$user" "$(random)"
    name=$(printf '%s' "$user" | tr '[:lower:]' '[:upper:]')_PASSWORD
    conf="$conf$name: \"$(cat "bus_$user")\"
"
done
rm -f passwords.conf # always what the others say
keep passwords.conf "$conf"
keep api_keys "first=kt-$(random)"
keep admin_key "kt-$(random)"
keep grafana_admin "$(random)"
echo "secrets are in $(pwd)"
