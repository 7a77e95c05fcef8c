//! Reads the dataset from a table in PostgreSQL, over the TCP connection that the policy grants.
//!
//! The connection is not encrypted, so only a login with SCRAM-SHA-256 is accepted, see
//! [`ScramOnly`]: the password is not sent, and a server that does not know it is rejected. Errors
//! never repeat text from the server, because it contains user names, which come from the vault
//! here.

mod scram_only;
#[cfg(test)]
mod tests;

use std::error::Error as _;
use std::fmt;
use std::io;
use std::net::ToSocketAddrs as _;
use std::pin::pin;

use futures_util::TryStreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Kind, Type};
use tokio_postgres::{Client, Config, NoTls, Row};

use crate::data::{CLASSES, DataError, Dataset, FEATURES, feature_names};
use scram_only::{NotScram, ScramOnly};

/// The column with the number of a row, which decides whether the row is held out.
const INDEX: &str = "row_index";
/// The column with the name of the row's class.
const CLASS: &str = "diagnosis";

/// The maximum length of a name in PostgreSQL, in bytes.
const MAX_NAME: usize = 63;

/// Why the rows could not be read. No message contains a value, a secret, or text from the server.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The server's name has no address for this run.
    #[error("cannot look up `{0}`: a run can look up the names in its policy's `tcp`, and no others")]
    LookUp(Address),
    /// The policy allows connections to other addresses only, or to none.
    #[error("cannot connect to `{0}`: the policy does not grant it; the line `tcp = [\"{0}\"]` would")]
    NotGranted(Address),
    /// The connection failed.
    #[error("cannot connect to `{address}`: {reason}; does the database run there?")]
    Connect { address: Address, reason: io::ErrorKind },
    /// The program cannot wait for a connection.
    #[error("cannot prepare for a connection: {0}")]
    Runtime(io::ErrorKind),
    /// The server requests the password itself, or no login.
    #[error(
        "the database does not log in with SCRAM-SHA-256; its `pg_hba.conf` has to say `scram-sha-256` for this user"
    )]
    NotScram,
    /// The server rejects user or password.
    #[error(
        "the database does not accept the user or the password: are the secrets `db-user` and `db-password` its own?"
    )]
    Login,
    /// The server does not allow this user to log in from here to this database, whatever the
    /// password.
    #[error(
        "the user may not log in to the database `{0}` from here: the server's `pg_hba.conf` and the role decide that"
    )]
    NotAdmitted(String),
    /// The server has no such database.
    #[error("the server has no database `{0}`")]
    NoDatabase(String),
    /// The database has no such table.
    #[error("the database has no table `{0}`")]
    NoTable(Table),
    /// The user lacks a privilege.
    #[error("the user may not read the table `{0}`: it needs SELECT on it, and USAGE on its schema")]
    NotAllowed(Table),
    /// The table has other columns.
    #[error("the table `{table}` does not hold this dataset: {}", .problems.join("; "))]
    Columns { table: Table, problems: Vec<String> },
    /// The table has no rows for this user.
    #[error("the table `{0}` shows no rows to this user")]
    Empty(Table),
    /// A value is missing or invalid for its column.
    #[error("column `{column}` of the row with {INDEX} {row}: no value that can be trained on")]
    Value { row: u64, column: String },
    /// A row has no valid number.
    #[error("a row has no {INDEX}, or one below 0")]
    Index,
    /// The connection broke.
    #[error("the connection to the database has ended")]
    Lost,
    /// Another error. PostgreSQL's manual lists the codes.
    #[error("the database refused, with the SQLSTATE `{0}`")]
    Refused(String),
    /// The server does not follow the protocol.
    #[error("the answer of `{address}` is not what PostgreSQL answers ({what}): does another service run there?")]
    Protocol { address: Address, what: String },
    /// The rows as a whole are unusable.
    #[error("cannot use the dataset: {0}")]
    Data(#[from] DataError),
}

/// A server's host, as an address or name, and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Parses `ADDRESS:PORT`, `[ADDRESS]:PORT` or `NAME:PORT`.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let port = port.parse().ok().filter(|port| *port != 0)?;
        Some(Self { host: name(host)?, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A table's name, with an optional schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    parts: Vec<String>,
}

impl Table {
    /// Parses `TABLE` or `SCHEMA.TABLE`. Names are case-sensitive and not folded.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split('.').map(name).collect::<Option<_>>()?;
        (parts.len() <= 2).then_some(Self { parts })
    }

    /// Returns the name quoted for SQL.
    fn quoted(&self) -> String {
        self.parts.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(".")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts.join("."))
    }
}

/// Returns a valid PostgreSQL name: neither empty nor too long, without control characters.
pub fn name(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= MAX_NAME && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// The location of the rows.
#[derive(Debug, Clone)]
pub struct TableLocation {
    /// The server.
    pub address: Address,
    /// The database on that server.
    pub database: String,
    /// The table in that database.
    pub table: Table,
}

/// The credentials of a login. Without `Debug` and `Display`, so that they are not logged by
/// accident.
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: String,
}

/// Connects, logs in, and reads the dataset.
pub fn load(location: &TableLocation, login: &Login) -> Result<Dataset, DatabaseError> {
    // WASI has no threads, so one thread waits for the one connection.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    runtime.map_err(|error| DatabaseError::Runtime(error.kind()))?.block_on(async {
        let stream = connect(&location.address).await?;
        read(ScramOnly::new(stream), location, login).await
    })
}

async fn connect(address: &Address) -> Result<TcpStream, DatabaseError> {
    let found = (address.host.as_str(), address.port).to_socket_addrs();
    let found = found.map_err(|_| DatabaseError::LookUp(address.clone()))?;
    let mut last = DatabaseError::LookUp(address.clone());
    for candidate in found {
        match TcpStream::connect(candidate).await {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                last = DatabaseError::NotGranted(address.clone());
            }
            Err(error) => last = DatabaseError::Connect { address: address.clone(), reason: error.kind() },
        }
    }
    Err(last)
}

/// Logs in and reads the dataset over an established connection.
async fn read<S>(stream: S, location: &TableLocation, login: &Login) -> Result<Dataset, DatabaseError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut config = Config::new();
    config.user(&login.user).password(&login.password).dbname(&location.database).application_name("training-example");
    let logged_in = config.connect_raw(stream, NoTls).await;
    let (client, connection) = logged_in.map_err(|error| explain(&error, location))?;
    let reading = async move {
        let rows = rows(&client, location).await;
        // The connection ends when its client is dropped.
        drop(client);
        rows
    };
    // Connection errors are reported by the client.
    futures_util::future::join(reading, connection).await.0
}

async fn rows(client: &Client, location: &TableLocation) -> Result<Dataset, DatabaseError> {
    let failed = |error| explain(&error, location);
    let table = location.table.quoted();
    // Prepared but never executed, to check the columns before a row is read.
    let described = client.prepare(&format!("SELECT * FROM {table}")).await.map_err(failed)?;
    let found: Vec<_> = described.columns().iter().map(|column| (column.name(), column.type_())).collect();
    let problems = check(&found);
    if !problems.is_empty() {
        return Err(DatabaseError::Columns { table: location.table.clone(), problems });
    }

    let query = client.prepare(&select(&table)).await.map_err(failed)?;
    let parameters: [&str; 0] = [];
    let mut stream = pin!(client.query_raw(&query, parameters).await.map_err(failed)?);
    let mut dataset = Dataset::new(CLASSES.map(str::to_owned));
    while let Some(row) = stream.try_next().await.map_err(failed)? {
        let (index, features, positive) = decode(&row, location)?;
        dataset.push(index, features, positive);
    }
    if dataset.rows() == 0 {
        return Err(DatabaseError::Empty(location.table.clone()));
    }
    Ok(dataset.complete()?)
}

/// Returns the feature columns in the order of the model.
fn feature_columns() -> Vec<String> {
    feature_names(FEATURES).iter().map(|name| name.replace(' ', "_")).collect()
}

/// Returns the problems of a table's columns. Additional columns are allowed.
fn check(columns: &[(&str, &Type)]) -> Vec<String> {
    let whole = |kind: &Type| [Type::INT2, Type::INT4, Type::INT8].contains(kind);
    let number = |kind: &Type| whole(kind) || [Type::FLOAT4, Type::FLOAT8, Type::NUMERIC].contains(kind);
    let text =
        |kind: &Type| [Type::TEXT, Type::VARCHAR, Type::BPCHAR].contains(kind) || matches!(kind.kind(), Kind::Enum(_));
    let problem = |column: &str, wanted: &str, fits: &dyn Fn(&Type) -> bool| match columns
        .iter()
        .find(|(name, _)| *name == column)
    {
        None => Some(format!("`{column}` is missing")),
        Some((_, kind)) if !fits(kind) => {
            Some(format!("`{column}` is of type `{}` where {wanted} is needed", kind.name()))
        }
        Some(_) => None,
    };
    let features = feature_columns();
    let own = [problem(INDEX, "a whole number", &whole), problem(CLASS, "text", &text)];
    own.into_iter().chain(features.iter().map(|column| problem(column, "a number", &number))).flatten().collect()
}

/// Returns the query, which casts every type accepted by [`check`] to one type.
fn select(table: &str) -> String {
    let features: Vec<_> = feature_columns().iter().map(|column| format!("{}::float8", quoted(column))).collect();
    format!("SELECT \"{INDEX}\"::int8, \"{CLASS}\"::text, {} FROM {table} ORDER BY \"{INDEX}\"", features.join(", "))
}

/// Decodes a row into its index, its features, and whether it is of class 1.
fn decode(row: &Row, location: &TableLocation) -> Result<(u64, Vec<f64>, bool), DatabaseError> {
    let failed = |error| explain(&error, location);
    let index = row.try_get::<_, Option<i64>>(0).map_err(failed)?;
    let index = index.and_then(|index| u64::try_from(index).ok()).ok_or(DatabaseError::Index)?;
    let wrong = |column: &str| DatabaseError::Value { row: index, column: column.to_owned() };

    let class = row.try_get::<_, Option<&str>>(1).map_err(failed)?;
    let class = CLASSES.iter().position(|name| Some(*name) == class).ok_or_else(|| wrong(CLASS))?;
    let mut features = Vec::with_capacity(FEATURES);
    for (at, column) in feature_columns().iter().enumerate() {
        let value = row.try_get::<_, Option<f64>>(at + 2).map_err(failed)?;
        features.push(value.filter(|value| value.is_finite()).ok_or_else(|| wrong(column))?);
    }
    Ok((index, features, class == 1))
}

/// Describes an error without text from the server.
fn explain(error: &tokio_postgres::Error, location: &TableLocation) -> DatabaseError {
    let Some(code) = error.code() else {
        let broken = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        return match broken {
            Some(cause) if cause.get_ref().is_some_and(|inner| inner.is::<NotScram>()) => DatabaseError::NotScram,
            Some(cause) if !matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => {
                DatabaseError::Lost
            }
            _ if error.is_closed() => DatabaseError::Lost,
            // This text comes from the library. Text from the server is only in the error's source.
            _ => DatabaseError::Protocol { address: location.address.clone(), what: error.to_string() },
        };
    };
    match code {
        code if *code == SqlState::INVALID_PASSWORD => DatabaseError::Login,
        code if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            DatabaseError::NotAdmitted(location.database.clone())
        }
        code if *code == SqlState::INVALID_CATALOG_NAME => DatabaseError::NoDatabase(location.database.clone()),
        code if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME => {
            DatabaseError::NoTable(location.table.clone())
        }
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE => DatabaseError::NotAllowed(location.table.clone()),
        code => DatabaseError::Refused(state(code.code())),
    }
}

/// Returns a SQLSTATE if it is valid: five digits or capital letters. A server could send anything.
fn state(code: &str) -> String {
    let fits = code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    if fits { code.to_owned() } else { "?????".to_owned() }
}
