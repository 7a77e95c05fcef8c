"""Reads the dataset from a table in PostgreSQL, over the TCP connection that the policy grants.

The connection is not encrypted, so only a login with SCRAM-SHA-256 is accepted: the password is not
sent, and a server that does not know it is rejected. Errors never repeat text from the server,
because it contains user names, which come from the vault here.
"""

import math
import struct

import pg8000.native
from dataset import CLASSES, FEATURES, DataError, Dataset

_OK, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 10, 11, 12


class DatabaseError(DataError):
    """The rows cannot be read. The text has no value, no secret and no text from the server."""


class _ScramOnly(pg8000.native.Connection):
    _proven = False

    def handle_AUTHENTICATION_REQUEST(self, data, context):  # noqa: N802
        (code,) = struct.unpack_from("!i", data)
        if code not in (_OK, _SASL, _SASL_CONTINUE, _SASL_FINAL) or (
            code == _OK and not self._proven
        ):
            raise DatabaseError(
                "the database does not log in with SCRAM-SHA-256; its `pg_hba.conf` has to say "
                "`scram-sha-256` for this user"
            )
        super().handle_AUTHENTICATION_REQUEST(data, context)
        self._proven = code == _SASL_FINAL


def load(address: str, database: str, table: str, user: str, password: str) -> Dataset:
    """Connects, logs in, and reads the dataset."""
    host, _, port = address.rpartition(":")
    columns = [name.replace(" ", "_") for name in FEATURES]
    try:
        connection = _ScramOnly(
            user,
            password=password,
            host=host.strip("[]"),
            port=int(port),
            database=database,
            ssl_context=False,
            application_name="training-example",
        )
        try:
            rows = connection.run(
                "SELECT row_index::int8, diagnosis::text, "
                + ", ".join(f"{pg8000.native.identifier(name)}::float8" for name in columns)
                + " FROM "
                + ".".join(pg8000.native.identifier(part) for part in table.split("."))
                + " ORDER BY row_index"
            )
        finally:
            connection.close()
    except pg8000.native.DatabaseError as error:
        raise DatabaseError(_explained(error, database, table)) from None
    except (pg8000.native.InterfaceError, OSError) as error:
        refused = isinstance(error.__cause__ or error, PermissionError)
        raise DatabaseError(
            f"cannot connect to `{address}`: "
            + (
                f'the policy does not grant it; the line `tcp = ["{address}"]` would'
                if refused
                else "does the database run there, and is the name in the policy's `tcp`?"
            )
        ) from None
    dataset = Dataset()
    for index, diagnosis, *features in rows:
        if index is None or diagnosis not in CLASSES or not all(map(_finite, features)):
            raise DatabaseError(f"the row with row_index {index} has no value to train on")
        dataset.add(index, features, diagnosis == CLASSES[1])
    return dataset.complete()


def _finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _explained(error: pg8000.native.DatabaseError, database: str, table: str) -> str:
    details = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    code = str(details.get("C", ""))
    reasons = {
        "28P01": "the database does not accept the user or the password: are the secrets "
        "`db-user` and `db-password` its own?",
        "28000": f"the user may not log in to the database `{database}` from here",
        "3D000": f"the server has no database `{database}`",
        "42P01": f"the database has no table `{table}`",
        "42703": f"the table `{table}` does not hold this dataset",
        "42501": f"the user may not read the table `{table}`: it needs SELECT on it",
    }
    valid = len(code) == 5 and code.isalnum() and code.isascii()
    return reasons.get(code, f"the database refused, with SQLSTATE `{code if valid else '?????'}`")
