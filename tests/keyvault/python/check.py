"""Microsoft's own Key Vault client against the test server.

The client was written for the real service. If it disagrees with the test server, the server is wrong.

Usage: check.py LINE, where LINE is the line that `keyvault-server` printed. REQUESTS_CA_BUNDLE names the
certificate authority.
"""

import json
import os
import sys
import time
import urllib.request
from datetime import datetime, timedelta, timezone

from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.identity import (
    CertificateCredential,
    ClientSecretCredential,
    CredentialUnavailableError,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)
from azure.keyvault.secrets import ApiVersion, SecretClient

SERVER = json.loads(sys.argv[1])
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def admin(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(SERVER["admin"] + path, data=data, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def fault(what, **options):
    admin("POST", "/faults", {"what": what, **options})


def client_secret_from_file():
    with open(SERVER["client-secret-file"], encoding="utf-8") as file:
        return file.read()


def credential(client_id=None, client_secret=None, tenant=None):
    return ClientSecretCredential(
        tenant or SERVER["tenant"],
        client_id or SERVER["client-id"],
        client_secret or client_secret_from_file(),
        authority=SERVER["authority"],
        # Otherwise the client asks login.microsoftonline.com whether Microsoft knows the authority.
        disable_instance_discovery=True,
    )


def client(credential_=None, **options):
    # The challenge names https://vault.azure.net, and the client requires the vault's host to be
    # below that name. A server on loopback cannot be, because the client compares the port too.
    # `challenge_resource_is_checked` tests this check.
    options.setdefault("verify_challenge_resource", False)
    return SecretClient(SERVER["vault"], credential_ or credential(), **options)


def raises(kind, call):
    try:
        call()
    except kind as error:
        assert type(error) is kind, f"{type(error)} in place of {kind}: {error}"
        return error
    raise AssertionError(f"no {kind.__name__}")


VAULT = client()
FAST = {"_polling_interval": 0.05}


@check
def set_and_get():
    created = VAULT.set_secret("First-Secret", "one")
    assert created.value == "one" and created.name == "First-Secret" and created.properties.enabled
    assert created.properties.version and created.properties.vault_url == SERVER["vault"]
    assert created.properties.recovery_level == "Recoverable+Purgeable" and created.properties.recoverable_days == 90
    assert abs((created.properties.created_on - datetime.now(timezone.utc)).total_seconds()) < 60
    assert VAULT.get_secret("First-Secret").value == "one"


@check
def names_are_case_insensitive():
    VAULT.set_secret("fIRST-secret", "two")
    assert VAULT.get_secret("FIRST-SECRET").value == "two"
    assert [item.name for item in VAULT.list_properties_of_secrets()].count("First-Secret") == 1


@check
def all_versions_are_listed():
    created = [VAULT.set_secret("versioned", f"value-{n}").properties.version for n in range(30)]
    listed = list(VAULT.list_properties_of_secret_versions("versioned"))
    assert sorted(item.version for item in listed) == sorted(created) and len(set(created)) == 30
    assert all(item.name == "versioned" for item in listed)
    assert VAULT.get_secret("versioned").properties.version == created[-1]
    assert VAULT.get_secret("versioned", created[3]).value == "value-3"
    raises(ResourceNotFoundError, lambda: VAULT.get_secret("versioned", "0" * 32))


@check
def properties_round_trip():
    begin = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    end = begin + timedelta(days=4000)
    VAULT.set_secret(
        "described", "x", content_type="text/plain", tags={"team": "training"}, not_before=begin, expires_on=end
    )
    found = VAULT.get_secret("described").properties
    assert (found.content_type, found.tags) == ("text/plain", {"team": "training"})
    assert (found.not_before, found.expires_on, found.enabled) == (begin, end, True)
    listed = [item for item in VAULT.list_properties_of_secrets() if item.name == "described"][0]
    assert listed.version is None and listed.content_type == "text/plain" and listed.expires_on == end


@check
def properties_are_updated():
    version = VAULT.set_secret("changing", "x", content_type="a", tags={"a": "1"}).properties.version
    changed = VAULT.update_secret_properties("changing", version, content_type="b")
    assert changed.content_type == "b" and changed.tags == {"a": "1"} and changed.version == version
    # Without a version the client sends an empty one, which stands for the current version.
    changed = VAULT.update_secret_properties("changing", tags={"b": "2"}, enabled=False)
    assert changed.tags == {"b": "2"} and changed.content_type == "b" and not changed.enabled
    raises(ResourceNotFoundError, lambda: VAULT.update_secret_properties("nowhere", tags={}))


@check
def disabled_secret_is_listed_but_not_read():
    error = raises(HttpResponseError, lambda: VAULT.get_secret("changing"))
    assert error.status_code == 403 and error.error.code == "Forbidden"
    assert error.error.innererror["code"] == "SecretDisabled", error.error.innererror
    assert [item.enabled for item in VAULT.list_properties_of_secrets() if item.name == "changing"] == [False]
    VAULT.update_secret_properties("changing", enabled=True)
    assert VAULT.get_secret("changing").value == "x"


@check
def expired_secret_is_served():
    VAULT.set_secret("expired", "old", expires_on=datetime(2020, 1, 1, tzinfo=timezone.utc))
    assert VAULT.get_secret("expired").value == "old"
    VAULT.set_secret("early", "new", not_before=datetime(2099, 1, 1, tzinfo=timezone.utc))
    assert VAULT.get_secret("early").value == "new"


@check
def lists_come_in_pages_of_25():
    names = {f"many-{n:03}" for n in range(60)}
    for name in names:
        VAULT.set_secret(name, "x")
    assert names <= {item.name for item in VAULT.list_properties_of_secrets()}
    pages = [len(list(page)) for page in VAULT.list_properties_of_secrets().by_page()]
    assert len(pages) >= 3 and set(pages[:-1]) == {25} and sum(pages) >= 60, pages
    pages = [len(list(page)) for page in VAULT.list_properties_of_secrets(max_page_size=10).by_page()]
    assert set(pages[:-1]) == {10}, pages
    error = raises(HttpResponseError, lambda: list(VAULT.list_properties_of_secrets(max_page_size=26)))
    assert error.status_code == 400 and error.error.code == "BadParameter"


@check
def list_may_start_with_an_empty_page():
    whole = [item.name for item in VAULT.list_properties_of_secrets()]
    admin("POST", "/settings", {"empty-page-first": True, "page-size": 7})
    assert [item.name for item in VAULT.list_properties_of_secrets()] == whole
    admin("POST", "/settings", {"empty-page-first": False, "page-size": 25})


@check
def list_is_resumed_by_its_token():
    first = VAULT.list_properties_of_secrets(max_page_size=5).by_page()
    first_page = [item.name for item in next(first)]
    rest = VAULT.list_properties_of_secrets().by_page(continuation_token=first.continuation_token)
    assert first_page + [item.name for page in rest for item in page] == [
        item.name for item in VAULT.list_properties_of_secrets()
    ]


@check
def absent_secret_is_not_found():
    error = raises(ResourceNotFoundError, lambda: VAULT.get_secret("nowhere"))
    assert error.error.code == "SecretNotFound" and "nowhere" in error.message
    raises(ResourceNotFoundError, lambda: list(VAULT.list_properties_of_secret_versions("nowhere")))
    raises(ResourceNotFoundError, lambda: VAULT.begin_delete_secret("nowhere"))
    raises(ResourceNotFoundError, lambda: VAULT.get_deleted_secret("nowhere"))
    raises(ResourceNotFoundError, lambda: VAULT.begin_recover_deleted_secret("nowhere"))
    raises(ResourceNotFoundError, lambda: VAULT.purge_deleted_secret("nowhere"))


@check
def invalid_name_is_rejected():
    error = raises(HttpResponseError, lambda: VAULT.get_secret("not_a_name"))
    assert error.status_code == 400 and error.error.code == "BadParameter", error
    raises(HttpResponseError, lambda: VAULT.set_secret("a" * 128, "x"))
    VAULT.set_secret("a" * 127, "x")


@check
def oversized_fields_are_rejected():
    VAULT.set_secret("big", "x" * 25 * 1024)
    for call in (
        lambda: VAULT.set_secret("big", "x" * (25 * 1024 + 1)),
        lambda: VAULT.set_secret("big", "x", content_type="x" * 256),
        lambda: VAULT.set_secret("big", "x", tags={str(n): "x" for n in range(16)}),
    ):
        assert raises(HttpResponseError, call).status_code == 400


@check
def deletion_recovery_and_purge():
    VAULT.set_secret("doomed", "still here")
    poller = VAULT.begin_delete_secret("doomed", **FAST)
    poller.wait(10)
    deleted = poller.result()
    assert deleted.name == "doomed" and deleted.recovery_id.endswith("/deletedsecrets/doomed")
    assert (deleted.scheduled_purge_date - deleted.deleted_date).days == 90
    raises(ResourceNotFoundError, lambda: VAULT.get_secret("doomed"))
    raises(ResourceNotFoundError, lambda: VAULT.begin_delete_secret("doomed"))
    assert "doomed" not in [item.name for item in VAULT.list_properties_of_secrets()]
    assert VAULT.get_deleted_secret("Doomed").name == "doomed"
    assert "doomed" in [item.name for item in VAULT.list_deleted_secrets()]

    error = raises(ResourceExistsError, lambda: VAULT.set_secret("DOOMED", "x"))
    assert error.status_code == 409 and error.error.innererror["code"] == "ObjectIsDeletedButRecoverable"

    VAULT.begin_recover_deleted_secret("doomed", **FAST).wait(10)
    assert VAULT.get_secret("doomed").value == "still here"

    VAULT.begin_delete_secret("doomed", **FAST).wait(10)
    VAULT.purge_deleted_secret("doomed")
    raises(ResourceNotFoundError, lambda: VAULT.get_deleted_secret("doomed"))
    assert VAULT.set_secret("doomed", "again").value == "again"


@check
def deletion_and_recovery_take_the_configured_time():
    admin("POST", "/settings", {"deletion-takes": 1000, "recovery-takes": 1000, "purge-takes": 1000})
    VAULT.set_secret("slow", "x")
    poller = VAULT.begin_delete_secret("slow", **FAST)
    poller.wait(0.3)
    assert not poller.done()
    raises(ResourceNotFoundError, lambda: VAULT.get_secret("slow"))
    for call in (lambda: VAULT.set_secret("slow", "y"), lambda: VAULT.purge_deleted_secret("slow")):
        assert raises(ResourceExistsError, call).error.innererror["code"] == "ObjectIsBeingDeleted"
    admin("POST", "/clock", {"advance": 1001})
    poller.wait(10)
    assert poller.done()

    poller = VAULT.begin_recover_deleted_secret("slow", **FAST)
    poller.wait(0.3)
    assert not poller.done()
    error = raises(ResourceExistsError, lambda: VAULT.set_secret("slow", "y"))
    assert error.error.innererror["code"] == "ObjectIsBeingRecovered"
    admin("POST", "/clock", {"advance": 1001})
    poller.wait(10)
    assert poller.done() and VAULT.get_secret("slow").value == "x"
    admin("POST", "/settings", {"deletion-takes": 0, "recovery-takes": 0, "purge-takes": 0})
    admin("POST", "/clock", {"advance": -2002})


@check
def ungranted_operation_is_forbidden():
    created = admin("POST", "/principals", {"name": "narrow", "permissions": [{"action": "get", "secret": "versioned"}]})
    narrow = client(credential(created["client-id"], created["client-secret"]))
    assert narrow.get_secret("Versioned").value == "value-29"
    for call in (
        lambda: narrow.get_secret("described"),
        lambda: narrow.get_secret("nowhere"),
        lambda: narrow.set_secret("versioned", "x"),
        lambda: list(narrow.list_properties_of_secrets()),
        lambda: narrow.begin_delete_secret("versioned"),
    ):
        error = raises(HttpResponseError, call)
        assert error.status_code == 403 and error.error.innererror["code"] == "ForbiddenByRbac", error


@check
def wrong_credential_gets_a_specific_error():
    error = raises(ClientAuthenticationError, lambda: client(credential(client_secret="wrong")).get_secret("versioned"))
    assert "AADSTS7000215" in error.message, error.message
    other = "00000000-0000-4000-8000-000000000000"
    error = raises(ClientAuthenticationError, lambda: client(credential(client_id=other)).get_secret("versioned"))
    assert "AADSTS700016" in error.message, error.message
    # The client signs in to its configured tenant, and fails if the challenge names another one.
    refused = raises(ClientAuthenticationError, lambda: client(credential(tenant=other)).get_secret("versioned"))
    assert "tenant" in refused.message, refused.message

    created = admin("POST", "/principals", {"name": "leaver", "permissions": [{"action": "get"}]})
    leaver = client(credential(created["client-id"], created["client-secret"]))
    assert leaver.get_secret("versioned").value == "value-29"
    admin("POST", "/principals/leaver", {"disabled": True})
    assert leaver.get_secret("versioned").value == "value-29", "an issued token was refused"
    admin("POST", "/principals/leaver", "revoke-tokens")
    error = raises(ClientAuthenticationError, lambda: leaver.get_secret("versioned"))
    assert "AADSTS7000112" in error.message, error.message


@check
def claims_challenge_gets_a_new_token():
    VAULT.get_secret("versioned")
    before = admin("GET", "/counters")["requests"]["token-client-secret"]
    admin("POST", "/principals/application", "revoke-tokens")
    assert VAULT.get_secret("versioned").value == "value-29"
    assert admin("GET", "/counters")["requests"]["token-client-secret"] == before + 1


@check
def expired_token_is_refused():
    # The client's clock does not move with the server's, so the client does not renew its token.
    admin("POST", "/clock", {"advance": 4000})
    error = raises(ClientAuthenticationError, lambda: VAULT.get_secret("versioned"))
    assert error.status_code == 401 and "TokenExpired" in error.message, error.message
    admin("POST", "/clock", {"advance": -4000})
    assert VAULT.get_secret("versioned").value == "value-29"


@check
def token_for_another_resource_is_refused():
    class OtherResource:
        def get_token(self, *scopes, **kwargs):
            return credential().get_token("https://management.azure.com/.default")

    error = raises(ClientAuthenticationError, lambda: client(OtherResource()).get_secret("versioned"))
    assert "AKV10022" in error.message, error.message


@check
def workload_exchanges_its_token():
    workload = WorkloadIdentityCredential(
        tenant_id=SERVER["tenant"],
        client_id=SERVER["client-id"],
        token_file_path=SERVER["federated-token-file"],
        authority=SERVER["authority"],
        disable_instance_discovery=True,
    )
    assert client(workload).get_secret("versioned").value == "value-29"
    assert admin("GET", "/counters")["requests"]["token-client-assertion"] == 1


@check
def client_signs_in_with_its_certificate():
    def signing():
        return CertificateCredential(
            SERVER["tenant"],
            SERVER["client-id"],
            certificate_data=pem,
            authority=SERVER["authority"],
            disable_instance_discovery=True,
        )

    pem = admin("POST", "/client-certificate")["pem"].encode()
    assert client(signing()).get_secret("versioned").value == "value-29"
    assert admin("GET", "/counters")["requests"]["token-client-certificate"] == 1
    admin("POST", "/client-certificate")
    error = raises(ClientAuthenticationError, lambda: client(signing()).get_secret("versioned"))
    assert "AADSTS700027" in error.message, error.message


@check
def managed_identities_use_the_metadata_service():
    os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = SERVER["metadata"]
    user = SERVER["user-assigned"]
    for arguments in (
        {},
        {"client_id": user["client-id"]},
        {"identity_config": {"object_id": user["object-id"]}},
        {"identity_config": {"resource_id": user["resource-id"]}},
    ):
        identity = client(ManagedIdentityCredential(**arguments))
        assert identity.get_secret("versioned").value == "value-29"
        assert raises(HttpResponseError, lambda: identity.set_secret("versioned", "x")).status_code == 403
    who = [line["principal"] for line in admin("GET", "/journal") if line["kind"] == "token-metadata"]
    assert who == ["system-assigned", "user-assigned", "user-assigned", "user-assigned"], who
    unknown = ManagedIdentityCredential(client_id="00000000-0000-4000-8000-000000000000")
    error = raises(CredentialUnavailableError, lambda: client(unknown).get_secret("versioned"))
    assert "Identity not found" in error.message, error.message
    del os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"]


@check
def challenge_resource_is_checked():
    error = raises(ValueError, lambda: client(verify_challenge_resource=True).get_secret("versioned"))
    assert "does not match the requested domain" in str(error)


@check
def all_api_versions_are_accepted():
    for version in ("7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"):
        assert ApiVersion(version)
        assert client(api_version=version).get_secret("versioned").value == "value-29"
    assert raises(HttpResponseError, lambda: client(api_version="7.0").get_secret("versioned")).status_code == 400


@check
def throttling_is_retried():
    fault({"kind": "throttle", "retry-after": 0}, times=2, path="/secrets/versioned")
    assert VAULT.get_secret("versioned").value == "value-29"
    fault({"kind": "throttle"}, times=1, path="/secrets/versioned")
    assert client(retry_backoff_factor=0.1).get_secret("versioned").value == "value-29"
    fault({"kind": "throttle"}, path="/secrets/versioned")
    error = raises(HttpResponseError, lambda: client(retry_total=0).get_secret("versioned"))
    assert error.status_code == 429 and error.error.code == "Throttled"
    admin("DELETE", "/faults")


@check
def network_faults_raise_errors():
    hasty = client(retry_total=0)
    assert hasty.get_secret("versioned").value == "value-29"
    fault({"kind": "status", "code": 503}, times=1)
    assert raises(HttpResponseError, lambda: hasty.get_secret("versioned")).status_code == 503
    fault({"kind": "reset"}, times=1)
    raises(ServiceResponseError, lambda: hasty.get_secret("versioned"))
    # In the middle of the body, where the error depends on which library detects the reset.
    fault({"kind": "reset", "after": 10}, times=1)
    try:
        hasty.get_secret("versioned")
        raise AssertionError("no error")
    except (HttpResponseError, ServiceRequestError, ServiceResponseError):
        pass
    admin("POST", "/listen", {"service": "vault", "open": False})
    raises(ServiceRequestError, lambda: hasty.get_secret("versioned"))
    admin("POST", "/listen", {"service": "vault", "open": True})
    assert hasty.get_secret("versioned").value == "value-29"


@check
def first_request_has_neither_token_nor_body():
    admin("DELETE", "/journal")
    # Empties the cache of challenges, as in a new process.
    from azure.keyvault.secrets._shared import http_challenge_cache

    http_challenge_cache.clear()
    client().set_secret("challenged", "x")
    kinds = [line["kind"] for line in admin("GET", "/journal") if line["service"] == "vault"]
    assert kinds == ["challenge", "set-secret"], kinds


def main():
    for number, function in enumerate(CHECKS, 1):
        started = time.monotonic()
        try:
            function()
        except BaseException:
            print(f"not ok {number} {function.__name__}", flush=True)
            raise
        print(f"ok {number} {function.__name__} {time.monotonic() - started:.2f}s", flush=True)
    print(f"all {len(CHECKS)} passed", flush=True)


main()
