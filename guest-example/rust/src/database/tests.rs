use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

const USER: &str = "trainer-of-the-vault";
const PASSWORD: &str = "hunter2-hunter2-hunter2";
const TABLE_DEFINITION: &str = include_str!("../../../data/breast_cancer.sql");

/// Columns and their types.
type Columns = Vec<(String, Type)>;

/// A server that accepts every login and answers as configured, in version 3 of PostgreSQL's
/// protocol.
struct Server {
    /// Sends this message instead of a login.
    greeting: Option<Vec<u8>>,
    /// The table's columns, or an error if it does not exist.
    columns: Result<Columns, &'static str>,
    /// The rows of the query, with values in the protocol's binary format.
    rows: Vec<Vec<Option<Vec<u8>>>>,
    /// The error that ends the query, if any.
    failure: Option<&'static str>,
    /// Closes the connection instead of ending the query.
    breaks: bool,
}

impl Server {
    fn of(rows: Vec<Vec<Option<Vec<u8>>>>) -> Self {
        Self { greeting: None, columns: Ok(columns()), rows, failure: None, breaks: false }
    }

    async fn serve(self, mut stream: DuplexStream) -> io::Result<()> {
        let length = stream.read_u32().await?;
        let mut startup = vec![0; length as usize - 4];
        stream.read_exact(&mut startup).await?;
        if let Some(greeting) = self.greeting {
            return stream.write_all(&greeting).await;
        }
        stream.write_all(&[message(b'R', &[0; 4]), ready()].concat()).await?;
        let (mut first, mut prepared) = (None, 0);
        loop {
            let tag = stream.read_u8().await?;
            let length = stream.read_u32().await?;
            let mut body = vec![0; length as usize - 4];
            stream.read_exact(&mut body).await?;
            match (tag, first) {
                (b'X', _) => return Ok(()),
                (b'S', Some(b'P')) => {
                    prepared += 1;
                    let described = match (&self.columns, prepared) {
                        (Err(code), _) => error(code),
                        (Ok(columns), 1) => description(columns),
                        _ => description(&selected()),
                    };
                    stream.write_all(&[described, ready()].concat()).await?;
                }
                (b'S', Some(b'B')) => {
                    let rows: Vec<_> = self.rows.iter().flat_map(|row| data(row)).collect();
                    stream.write_all(&[message(b'2', &[]), rows].concat()).await?;
                    if self.breaks {
                        return Ok(());
                    }
                    let end = self.failure.map_or_else(|| message(b'C', b"SELECT 1\0"), error);
                    stream.write_all(&[end, ready()].concat()).await?;
                }
                (b'S', _) => stream.write_all(&[message(b'3', &[]), ready()].concat()).await?,
                (tag, None) => {
                    first = Some(tag);
                    continue;
                }
                _ => continue,
            }
            first = None;
        }
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], (body.len() as u32 + 4).to_be_bytes().as_slice(), body].concat()
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

/// Returns an error whose text contains the user's name, as real servers do, and also the password.
fn error(code: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0C{code}\0Mno \"{USER}\" with {PASSWORD}\0\0").as_bytes())
}

fn description(columns: &[(String, Type)]) -> Vec<u8> {
    let mut body = (columns.len() as u16).to_be_bytes().to_vec();
    for (name, kind) in columns {
        body.extend([name.as_bytes(), &[0; 7], &kind.oid().to_be_bytes(), &[0; 8]].concat());
    }
    [message(b'1', &[]), message(b't', &[0; 2]), message(b'T', &body)].concat()
}

fn data(values: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut body = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        body.extend(value.as_ref().map_or(-1, |value| value.len() as i32).to_be_bytes());
        body.extend(value.iter().flatten());
    }
    message(b'D', &body)
}

/// The columns that `breast_cancer.sql` creates.
fn columns() -> Columns {
    let features = feature_columns().into_iter().map(|name| (name, Type::FLOAT8));
    [(INDEX.to_owned(), Type::INT4)].into_iter().chain(features).chain([(CLASS.to_owned(), Type::TEXT)]).collect()
}

/// The columns of the query.
fn selected() -> Columns {
    let own = [(INDEX.to_owned(), Type::INT8), (CLASS.to_owned(), Type::TEXT)];
    own.into_iter().chain(feature_columns().into_iter().map(|name| (name, Type::FLOAT8))).collect()
}

fn row(index: i64, class: &str, first: f64) -> Vec<Option<Vec<u8>>> {
    let features = (0..FEATURES).map(|at| Some((if at == 0 { first } else { at as f64 }).to_be_bytes().to_vec()));
    [Some(index.to_be_bytes().to_vec()), Some(class.as_bytes().to_vec())].into_iter().chain(features).collect()
}

fn location() -> TableLocation {
    TableLocation {
        address: Address::parse("db.example:5432").unwrap(),
        database: "training".into(),
        table: Table::parse("breast_cancer").unwrap(),
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(future)
}

fn login() -> Login {
    Login { user: USER.into(), password: PASSWORD.into() }
}

/// Reads the dataset from a server.
fn read_from(server: Server) -> Result<Dataset, DatabaseError> {
    let (near, far) = tokio::io::duplex(1 << 16);
    wait(async { futures_util::future::join(read(near, &location(), &login()), server.serve(far)).await.0 })
}

fn failure(server: Server) -> String {
    let error = read_from(server).unwrap_err();
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains(USER) && !text.contains(PASSWORD), "{text}");
    }
    error.to_string()
}

#[test]
fn rows_are_decoded_and_split_by_index() {
    let rows = vec![row(3, "malignant", 0.1), row(4, "benign", f64::MIN_POSITIVE), row(8, "benign", -1e300)];
    let dataset = read_from(Server::of(rows)).unwrap();
    assert_eq!(dataset.classes, CLASSES);
    assert_eq!(dataset.training.positive, [false, true]);
    assert_eq!(dataset.held_out.positive, [true]);
    assert_eq!(dataset.training.features[0][..3], [0.1, 1.0, 2.0]);
    assert_eq!(dataset.training.features[1][0], -1e300);
    assert_eq!(dataset.held_out.features[0][0], f64::MIN_POSITIVE);
    assert_eq!(dataset.held_out.features[0].len(), FEATURES);
}

#[test]
fn invalid_value_is_located_but_not_shown() {
    let null = |column: usize| {
        let mut row = row(7, "benign", 1.0);
        row[column] = None;
        row
    };
    let value =
        |column: &str| format!("column `{column}` of the row with row_index 7: no value that can be trained on");
    for (row, expected) in [
        (null(0), "a row has no row_index, or one below 0".to_owned()),
        (row(-1, "benign", 1.0), "a row has no row_index, or one below 0".to_owned()),
        (null(1), value("diagnosis")),
        (row(7, "private", 1.0), value("diagnosis")),
        (null(2), value("mean_radius")),
        (null(31), value("worst_fractal_dimension")),
        (row(7, "benign", f64::NAN), value("mean_radius")),
        (row(7, "benign", f64::INFINITY), value("mean_radius")),
    ] {
        assert_eq!(failure(Server::of(vec![row])), expected);
    }
    let one_class = vec![row(0, "benign", 1.0), row(4, "malignant", 1.0)];
    assert_eq!(failure(Server::of(one_class)), "cannot use the dataset: the training rows hold only one class");
    assert_eq!(failure(Server::of(Vec::new())), "the table `breast_cancer` shows no rows to this user");
}

#[test]
fn wrong_table_is_explained_before_rows_are_read() {
    let with = |change: &dyn Fn(&mut Columns)| {
        let mut columns = columns();
        change(&mut columns);
        Server { columns: Ok(columns), ..Server::of(Vec::new()) }
    };
    let message = failure(with(&|columns| {
        columns[0].1 = Type::FLOAT8;
        columns[1].1 = Type::TEXT;
        columns.remove(2);
        columns.last_mut().unwrap().1 = Type::BOOL;
    }));
    assert_eq!(
        message,
        "the table `breast_cancer` does not hold this dataset: `row_index` is of type `float8` where a whole number is needed; \
         `diagnosis` is of type `bool` where text is needed; `mean_radius` is of type `text` where a number is needed; \
         `mean_texture` is missing"
    );
    // Equivalent types, in another order, with additional columns.
    let other = with(&|columns| {
        columns[0].1 = Type::INT8;
        columns[1].1 = Type::NUMERIC;
        columns[2].1 = Type::FLOAT4;
        columns.last_mut().unwrap().1 = Type::VARCHAR;
        columns.insert(0, ("patient".into(), Type::UUID));
        columns.reverse();
    });
    assert_eq!(failure(other), "the table `breast_cancer` shows no rows to this user");
}

#[test]
fn table_definition_has_the_expected_columns() {
    let defined = |name: &str, kind: &str| TABLE_DEFINITION.contains(&format!("\n    {name} {kind} "));
    assert!(defined(INDEX, "integer") && defined(CLASS, "text"));
    assert!(feature_columns().iter().all(|column| defined(column, "double precision")));
    assert_eq!(TABLE_DEFINITION.matches(" double precision ").count(), FEATURES);
}

#[test]
fn server_errors_are_described_without_server_text() {
    let greeted = |code| failure(Server { greeting: Some(error(code)), ..Server::of(Vec::new()) });
    assert_eq!(
        greeted("28P01"),
        "the database does not accept the user or the password: are the secrets `db-user` and `db-password` its own?"
    );
    assert!(greeted("28000").starts_with("the user may not log in to the database `training` from here: "));
    assert_eq!(greeted("3D000"), "the server has no database `training`");
    assert_eq!(greeted("53300"), "the database refused, with the SQLSTATE `53300`");
    assert_eq!(greeted("hunter2-hunter2-hunter2"), "the database refused, with the SQLSTATE `?????`");

    let prepared = |code| failure(Server { columns: Err(code), ..Server::of(Vec::new()) });
    assert_eq!(prepared("42P01"), "the database has no table `breast_cancer`");
    assert_eq!(prepared("3F000"), "the database has no table `breast_cancer`");
    let not_allowed = "the user may not read the table `breast_cancer`: it needs SELECT on it, and USAGE on its schema";
    assert_eq!(prepared("42501"), not_allowed);

    let after_a_row = |code| failure(Server { failure: Some(code), ..Server::of(vec![row(0, "benign", 1.0)]) });
    assert_eq!(after_a_row("42501"), not_allowed);
    assert_eq!(after_a_row("57014"), "the database refused, with the SQLSTATE `57014`");
}

#[test]
fn broken_or_invalid_connection_is_an_error() {
    let broken = Server { breaks: true, ..Server::of(vec![row(0, "benign", 1.0), row(1, "malignant", 1.0)]) };
    assert_eq!(failure(broken), "the connection to the database has ended");
    // An empty stream, and a message that claims to be over a gigabyte long.
    for greeting in [Vec::new(), b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()] {
        let server = Server { greeting: Some(greeting), ..Server::of(Vec::new()) };
        assert_eq!(failure(server), "the connection to the database has ended");
    }
    let other = "the answer of `db.example:5432` is not what PostgreSQL answers (";
    for greeting in [message(b'R', &[0, 0, 0, 99]), message(b'D', &[0; 2]), message(b'?', b"what")] {
        let message = failure(Server { greeting: Some(greeting.clone()), ..Server::of(Vec::new()) });
        assert!(message.starts_with(other), "{greeting:?}: {message}");
    }
}

#[test]
fn password_is_not_sent_for_other_login_methods() {
    // Clear text, MD5, no login, and Kerberos; each also in pieces.
    for code in [3, 5, 0, 7_u32] {
        for piece in [1, 4, 100] {
            let greeting = message(b'R', &[code.to_be_bytes().as_slice(), b"salt"].concat());
            let sent = wait(async {
                let (near, mut far) = tokio::io::duplex(1 << 16);
                let location = location();
                let login = login();
                let reading = async {
                    // Dropping the stream at the end closes it for the other side.
                    read(ScramOnly::new(near), &location, &login).await.unwrap_err()
                };
                let server = async {
                    for part in greeting.chunks(piece) {
                        if far.write_all(part).await.is_err() {
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                    let mut sent = Vec::new();
                    far.read_to_end(&mut sent).await.unwrap();
                    sent
                };
                let (error, sent) = futures_util::future::join(reading, server).await;
                assert!(matches!(error, DatabaseError::NotScram), "{code}, {piece}: {error:?}");
                sent
            });
            let length = u32::from_be_bytes(sent[..4].try_into().unwrap());
            assert_eq!(length as usize, sent.len(), "the start of a connection, and nothing after it");
            assert!(!sent.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()));
        }
    }
    // The first message of a real server.
    let greeting = message(b'R', &[&[0, 0, 0, 10], b"SCRAM-SHA-256\0\0".as_slice()].concat());
    let sent = wait(async {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        far.write_all(&greeting).await.unwrap();
        let (location, login) = (location(), login());
        let server = async {
            let length = far.read_u32().await.unwrap();
            far.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
            let mut first = vec![0; 5 + "SCRAM-SHA-256".len()];
            far.read_exact(&mut first).await.unwrap();
            drop(far);
            first
        };
        futures_util::future::join(read(ScramOnly::new(near), &location, &login), server).await.1
    });
    assert!(sent.starts_with(b"p") && sent.ends_with(b"SCRAM-SHA-256"), "{sent:?}");
}

#[test]
fn closed_port_is_an_error() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let location = TableLocation { address: Address::parse(&free.to_string()).unwrap(), ..location() };
    let error = load(&location, &login()).unwrap_err().to_string();
    assert_eq!(error, format!("cannot connect to `{free}`: connection refused; does the database run there?"));
}

#[test]
fn error_shows_the_policy_line_for_tcp() {
    let error = DatabaseError::NotGranted(Address::parse("[::1]:5432").unwrap()).to_string();
    assert_eq!(
        error,
        "cannot connect to `[::1]:5432`: the policy does not grant it; the line `tcp = [\"[::1]:5432\"]` would"
    );
    let error = DatabaseError::LookUp(Address::parse("db.example:5432").unwrap()).to_string();
    assert!(error.starts_with("cannot look up `db.example:5432`: a run can look up the names in its policy's `tcp`"));
}

#[test]
fn addresses_and_tables_are_parsed() {
    for text in ["127.0.0.1:5432", "[::1]:5432", "db.example:1"] {
        assert_eq!(Address::parse(text).unwrap().to_string(), text);
    }
    for text in ["", "db", ":5432", "db:", "db:0", "db:65536", "db:+x", "::1:5432", "[::1:5432", "d\0b:5432"] {
        assert_eq!(Address::parse(text), None, "{text:?}");
    }
    for (text, sql) in [
        ("breast_cancer", r#""breast_cancer""#),
        ("Public.Rows", r#""Public"."Rows""#),
        (r#"x" ; DROP TABLE y; --"#, r#""x"" ; DROP TABLE y; --""#),
    ] {
        assert_eq!(Table::parse(text).unwrap().quoted(), sql);
    }
    for text in ["", ".", "a.", ".b", "a.b.c", "a\nb", &"x".repeat(64)] {
        assert_eq!(Table::parse(text), None, "{text:?}");
    }
}
