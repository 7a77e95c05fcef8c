#!/usr/bin/env bash
# The demonstration with Azure Key Vault in the place of the local vault, and the same components, unchanged. The vault is the test server of
# `tests/keyvault`: vault, token endpoint and metadata address on loopback. It needs no subscription, and is stopped at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
server_program=$(readlink -f "${KEYVAULT_SERVER:?the built test server}")
source scripts/demo-common.sh

mkdir "$work/azure" "$work/data"
# A signal from the terminal is for this script, which then ends the server.
coproc server { trap '' INT HUP; exec "$server_program" --dir "$work/azure"; }
stop_at_end 'the Key Vault test server'
read -r told <&"$answers" || fail 'there is no server'
cp guest-example/data/breast_cancer.csv "$work/data/"
cp "$guests/wasm32-wasip2/release/thief.wasm" "$work/"
cd "$work"

# A field of the line that the server has told: the first of that name.
field() { [[ $told =~ \"$1\":\"([^\"]*)\" ]] && printf '%s' "${BASH_REMATCH[1]}"; }
# A request to the server's admin port; the answer's body.
admin() {
  local address=${admin_url#http://} body=${3:-}
  exec {port}<>"/dev/tcp/${address%:*}/${address##*:}"
  printf '%s %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\ncontent-length: %s\r\n\r\n%s' "$1" "$2" "$address" "${#body}" "$body" >&"$port"
  sed '1,/^\r*$/d' <&"$port"
  exec {port}>&-
}
# The server's journal as a table.
journal() {
  printf '%-15s %-7s %-62s %s\n' WHOSE-TOKEN METHOD PATH STATUS
  admin GET /journal | tr '}' '\n' | while read -r line; do
    [[ $line =~ \"method\":\"([A-Z]*)\",\"path\":\"([^\"]*)\" ]] || continue
    local method=${BASH_REMATCH[1]} path=${BASH_REMATCH[2]} whose=none status=''
    ! [[ $line =~ \"principal\":\"([^\"]*)\" ]] || whose=${BASH_REMATCH[1]}
    ! [[ $line =~ \"status\":([0-9]*) ]] || status=${BASH_REMATCH[1]}
    printf '%-15s %-7s %-62.62s %s\n' "$whose" "$method" "${path%%\?*}" "$status"
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
printf 'vault = "%s"\ncredential = "managed-identity"\n\n# For a stand-in on this machine alone; a vault of Azure needs none of it.\n%s\n' "$vault" "$emulator" \
  >config/strongroom/config.toml
printf 'vault = "%s"\ncredential = "client-secret"\n[azure]\ntenant-id = "%s"\nclient-id = "%s"\nclient-secret-file = "%s"\n%s\n' \
  "$vault" "$(field tenant)" "$(field client-id)" "$(field client-secret-file)" "$emulator" >operator.toml
# What `az role assignment create` on single secrets would do: the machine may read one secret and write two.
admin POST /principals/system-assigned '{"permissions": [{"action": "get", "secret": "dataset-key"},
  {"action": "set", "secret": "dataset-key"}, {"action": "set", "secret": "model-key"}]}' >/dev/null

say "A Key Vault at $vault, and a machine whose managed identity has roles on two of its secrets"
expect 0 cat config/strongroom/config.toml
expect 0 strongroom vault status

say 'prepare: encrypts the data with a fresh key, and the key goes into the Key Vault'
expect 0 strongroom run training-example.wasm --policy prepare.toml --input data --output sealed -- prepare

admin DELETE /journal >/dev/null
say 'train: may get the key of the data and set the key of the model'
expect 0 cat train.toml
expect 0 strongroom run training-example.wasm --policy train.toml --input sealed --output model -- train --from-file
say 'what the Key Vault saw of that run: who asked, for what; a first request carries no token'
seen=$(journal)
printf '\n%s\n' "$seen"
[ "$(wc -l <<<"$seen")" -eq 5 ] || fail 'the Key Vault saw something else than that'

say 'a thief: it may read one key, prints it in pieces, and looks for the rest: other secrets, the credential, the metadata address'
expect 0 strongroom run thief.wasm --policy thief.toml

say 'the operator signs in as somebody else, and deletes the key of the model'
expect 0 STRONGROOM_CONFIG=operator.toml strongroom vault status
expect 0 STRONGROOM_CONFIG=operator.toml strongroom secret list
expect 0 STRONGROOM_CONFIG=operator.toml strongroom secret delete model-key

say 'a Key Vault keeps the name of what was deleted: the component is told `conflict`, the operator what to do'
expect 1 strongroom run training-example.wasm --policy train.toml --input sealed --output nothing -- train --from-file
expect 0 STRONGROOM_CONFIG=operator.toml strongroom secret recover model-key
expect 0 strongroom run training-example.wasm --policy train.toml --input sealed --output again -- train --from-file
expect 0 STRONGROOM_CONFIG=operator.toml strongroom secret versions model-key

say 'what the audit says, and that nobody has changed it'
expect 0 strongroom audit show --run last
expect 0 strongroom audit verify

say 'neither the secret that the operator signs in with nor a token is in what the runs have left'
expect 1 grep --recursive --files-with-matches --fixed-strings --file=azure/client-secret home model again
expect 1 grep --recursive --files-with-matches --fixed-strings eyJ home/audit home/runs model again

say 'the model opens with the key that the last run has left in the Key Vault'
expect 0 'STRONGROOM_CONFIG=operator.toml strongroom secret get model-key | open-model again/model.json.age'
