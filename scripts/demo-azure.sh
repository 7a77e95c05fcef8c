#!/usr/bin/env bash
# The Azure demo: the same components, unchanged, with Azure Key Vault instead of the local vault.
# The vault is the test server in `tests/keyvault`, which serves the vault, the token endpoint and
# the metadata address on loopback. The demo needs no Azure subscription and stops the server at the
# end.
set -euo pipefail
cd "$(dirname "$0")/.."
server_program=$(readlink -f "${KEYVAULT_SERVER:?set it to the path of the test server}")
source scripts/demo-common.sh

mkdir "$work/azure" "$work/data"
# The server ignores signals from the terminal: this script handles them and stops the server.
coproc server { trap '' INT HUP; exec "$server_program" --dir "$work/azure"; }
stop_at_end 'the Key Vault test server'
read -r endpoints <&"$answers" || fail 'the Key Vault test server did not start'
cp guest-example/data/breast_cancer.csv "$work/data/"
cp "$guests/wasm32-wasip2/release/thief.wasm" "$work/"
cd "$work"

# Prints the first field of this name in the line that the server printed at its start.
field() { [[ $endpoints =~ \"$1\":\"([^\"]*)\" ]] && printf '%s' "${BASH_REMATCH[1]}"; }
# Sends a request to the server's admin port and prints the body of the response.
admin() {
  local address=${admin_url#http://} body=${3:-}
  exec {port}<>"/dev/tcp/${address%:*}/${address##*:}"
  printf '%s %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\ncontent-length: %s\r\n\r\n%s' "$1" "$2" "$address" "${#body}" "$body" >&"$port"
  sed '1,/^\r*$/d' <&"$port"
  exec {port}>&-
}
# Prints the server's request journal as a table.
journal() {
  printf '%-15s %-7s %-62s %s\n' PRINCIPAL METHOD PATH STATUS
  admin GET /journal | tr '}' '\n' | while read -r line; do
    [[ $line =~ \"method\":\"([A-Z]*)\",\"path\":\"([^\"]*)\" ]] || continue
    local method=${BASH_REMATCH[1]} path=${BASH_REMATCH[2]} principal=none status=''
    ! [[ $line =~ \"principal\":\"([^\"]*)\" ]] || principal=${BASH_REMATCH[1]}
    ! [[ $line =~ \"status\":([0-9]*) ]] || status=${BASH_REMATCH[1]}
    printf '%-15s %-7s %-62.62s %s\n' "$principal" "$method" "${path%%\?*}" "$status"
  done
}

admin_url=$(field admin)
vault=$(field vault)
emulator="[azure.emulator]
host = \"${vault#https://}\"
ca-file = \"$(field ca-file)\"
authority = \"$(field authority)\"
metadata = \"$(field metadata)\""
mkdir -p config/strongroom
printf 'vault = "%s"\ncredential = "managed-identity"\n\n# Only for the test server on this machine; a vault in Azure needs none of these keys.\n%s\n' "$vault" "$emulator" \
  >config/strongroom/config.toml
printf 'vault = "%s"\ncredential = "client-secret"\n[azure]\ntenant-id = "%s"\nclient-id = "%s"\nclient-secret-file = "%s"\n%s\n' \
  "$vault" "$(field tenant)" "$(field client-id)" "$(field client-secret-file)" "$emulator" >operator.toml
# The equivalent of `az role assignment create` on single secrets: the machine may read one secret
# and write two.
admin POST /principals/system-assigned '{"permissions": [{"action": "get", "secret": "dataset-key"},
  {"action": "set", "secret": "dataset-key"}, {"action": "set", "secret": "model-key"}]}' >/dev/null

say "A Key Vault at $vault, and a managed identity with roles on two of its secrets"
expect 0 cat config/strongroom/config.toml
expect 0 strongroom vault status

say 'prepare: encrypt the data with a new key and store the key in the Key Vault'
expect 0 strongroom run training-example.wasm --policy prepare.toml --input data --output sealed -- prepare

admin DELETE /journal >/dev/null
say 'train: the policy allows the component to get the dataset key and to set the model key'
expect 0 cat train.toml
expect 0 strongroom run training-example.wasm --policy train.toml --input sealed --output model -- train --from-file
say 'show the requests that the Key Vault received during that run; the first request carries no token'
seen=$(journal)
printf '\n%s\n' "$seen"
[ "$(wc -l <<<"$seen")" -eq 5 ] || fail 'the Key Vault did not receive exactly four requests'

say 'a hostile component: it may read one key, prints it in pieces, and looks for other secrets, the credential and the metadata address'
expect 0 strongroom run thief.wasm --policy thief.toml

say 'the operator signs in with another identity and deletes the model key'
expect 0 STRONGROOM_CONFIG=operator.toml strongroom vault status
expect 0 STRONGROOM_CONFIG=operator.toml strongroom secret list
expect 0 STRONGROOM_CONFIG=operator.toml strongroom secret delete model-key

say 'Key Vault reserves the name of a deleted secret: the component gets the error `conflict`, and the operator recovers the secret'
expect 1 strongroom run training-example.wasm --policy train.toml --input sealed --output nothing -- train --from-file
expect 0 STRONGROOM_CONFIG=operator.toml strongroom secret recover model-key
expect 0 strongroom run training-example.wasm --policy train.toml --input sealed --output again -- train --from-file
expect 0 STRONGROOM_CONFIG=operator.toml strongroom secret versions model-key

say 'show the audit log of the last run, and verify the audit log'
expect 0 strongroom audit show --run last
expect 0 strongroom audit verify

say 'check that neither the client secret of the operator nor a token is in the files of the runs'
expect 1 grep --recursive --files-with-matches --fixed-strings --file=azure/client-secret home model again
expect 1 grep --recursive --files-with-matches --fixed-strings eyJ home/audit home/runs model again

say 'decrypt the model with the key that the last run stored in the Key Vault'
expect 0 'STRONGROOM_CONFIG=operator.toml strongroom secret get model-key | open-model again/model.json.age'
