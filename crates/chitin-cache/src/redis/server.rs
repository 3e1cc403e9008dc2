//! The address of a Redis server, as a URL says it. The password is in it and never comes out but to the server.

use std::fmt;
use std::path::PathBuf;

/// The port a Redis server listens on if nobody says.
const DEFAULT_PORT: u16 = 6_379;

/// A Redis server, and as whom to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub(crate) place: Place,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why an address is refused. None of these texts repeats it: there may be a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Another scheme, or none.
    #[error("must begin with redis:// or unix://, as in redis://:PASSWORD@127.0.0.1:6379/0")]
    Scheme,
    /// Encryption was asked for.
    #[error(
        "asks for TLS (rediss://), which is not supported: use redis:// to this machine, a unix:// socket, or a tunnel"
    )]
    Tls,
    /// No host.
    #[error("has no host")]
    Host,
    /// No number, or none that is a port.
    #[error("has a port that is none; allowed are 1 to 65535")]
    Port,
    /// No number.
    #[error("has a database that is none; a number is needed, as in redis://127.0.0.1:6379/0")]
    Database,
    /// A path that is not absolute.
    #[error("must name a socket by its whole path, as in unix:///run/redis/redis.sock?db=0")]
    Path,
    /// Something behind `?` or `#`.
    #[error("has an option that is not known; a unix:// address may have ?db=")]
    Option,
    /// `%` without two digits, or bytes that are no UTF-8.
    #[error("has a `%` that begins no encoded character")]
    Encoding,
}

impl Server {
    /// Reads `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]` or `unix://[[USER]:PASSWORD@]/PATH[?db=DATABASE]`. What is
    /// special in a URL is written as `%` and two digits.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub fn parse(url: &str) -> Result<Self, ServerError> {
        let (scheme, rest) = url.split_once("://").ok_or(ServerError::Scheme)?;
        match scheme {
            "redis" => Self::tcp(rest),
            "unix" | "redis+unix" => Self::unix(rest),
            "rediss" => Err(ServerError::Tls),
            _ => Err(ServerError::Scheme),
        }
    }

    /// Whether nothing of what is said to it leaves this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match &self.place {
            Place::Unix(_) => true,
            Place::Tcp { host, .. } => {
                host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
        }
    }

    fn tcp(rest: &str) -> Result<Self, ServerError> {
        if rest.contains(['?', '#']) {
            return Err(ServerError::Option);
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, password, address) = who(authority)?;
        let (host, port) = match address.strip_prefix('[') {
            Some(inner) => inner.split_once(']').ok_or(ServerError::Host)?,
            None => address.split_at(address.find(':').unwrap_or(address.len())),
        };
        if host.is_empty() {
            return Err(ServerError::Host);
        }
        let port = match port {
            "" => DEFAULT_PORT,
            port => port
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .filter(|port| *port > 0)
                .ok_or(ServerError::Port)?,
        };
        let place = Place::Tcp { host: decode(host)?, port };
        Ok(Self { place, user, password, database: number(database)? })
    }

    fn unix(rest: &str) -> Result<Self, ServerError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let database = match query.split_once('=') {
            None if query.is_empty() => "",
            Some(("db", database)) => database,
            _ => return Err(ServerError::Option),
        };
        let at = rest.find('/').ok_or(ServerError::Path)?;
        let (authority, path) = rest.split_at(at);
        let (user, password, address) = who(authority)?;
        if !address.is_empty() || path == "/" {
            return Err(ServerError::Path);
        }
        let place = Place::Unix(PathBuf::from(decode(path)?));
        Ok(Self { place, user, password, database: number(database)? })
    }
}

/// User, password, and what stands behind the `@`.
fn who(authority: &str) -> Result<(Option<String>, Option<Secret>, &str), ServerError> {
    let Some((who, address)) = authority.rsplit_once('@') else { return Ok((None, None, authority)) };
    let (user, password) = match who.split_once(':') {
        Some((user, password)) => (user, Some(Secret(decode(password)?))),
        None => (who, None),
    };
    let user = Some(decode(user)?).filter(|user| !user.is_empty());
    Ok((user, password.filter(|password| !password.0.is_empty()), address))
}

fn number(database: &str) -> Result<u32, ServerError> {
    if database.is_empty() { Ok(0) } else { database.parse().map_err(|_| ServerError::Database) }
}

fn decode(text: &str) -> Result<String, ServerError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next().unwrap_or(b'%')).to_digit(16);
        let (high, low) = (digit(), digit());
        let code = high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(code.ok_or(ServerError::Encoding)?);
    }
    String::from_utf8(bytes).map_err(|_| ServerError::Encoding)
}

/// What is special in a URL, or not ASCII, as `%` and two digits.
fn encode(text: &str, also_plain: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = char::from(byte);
        if byte.is_ascii_alphanumeric() || "-._~".contains(plain) || also_plain.contains(plain) {
            out.push(plain);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl fmt::Display for Server {
    /// The address as it is written, with `***` for the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match (&self.user, &self.password) {
            (None, None) => String::new(),
            (user, password) => {
                let user = encode(user.as_deref().unwrap_or_default(), "");
                format!("{user}{}@", if password.is_some() { ":***" } else { "" })
            }
        };
        match &self.place {
            Place::Tcp { host, port } if host.contains(':') => {
                write!(f, "redis://{who}[{host}]:{port}/{}", self.database)
            }
            Place::Tcp { host, port } => {
                write!(f, "redis://{who}{}:{port}/{}", encode(host, ""), self.database)
            }
            Place::Unix(path) => {
                write!(f, "unix://{who}{}?db={}", encode(&path.to_string_lossy(), "/"), self.database)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_understood_and_shown_without_its_password() {
        let cases = [
            ("redis://127.0.0.1", "redis://127.0.0.1:6379/0"),
            ("redis://cache.example:7000/3", "redis://cache.example:7000/3"),
            ("redis://:s3cret@localhost:1/", "redis://:***@localhost:1/0"),
            ("redis://me:s3cret@localhost", "redis://me:***@localhost:6379/0"),
            ("redis://me@localhost", "redis://me@localhost:6379/0"),
            ("redis://m%40e:a%3As3cret%40@[::1]:5/2", "redis://m%40e:***@[::1]:5/2"),
            ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
            ("redis+unix://:s3cret@/run/a%20b.sock?db=4", "unix://:***@/run/a%20b.sock?db=4"),
        ];
        for (url, shown) in cases {
            let server = Server::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(server.to_string(), shown);
            assert!(!format!("{server:?} {server}").contains("s3cret"), "{url}");
        }
        let server = Server::parse("redis://m%40e:a%3As3cret%40@[::1]:5/2").unwrap();
        assert_eq!(server.user.as_deref(), Some("m@e"));
        assert_eq!(server.password.unwrap().reveal(), "a:s3cret@");
        assert_eq!(server.place, Place::Tcp { host: "::1".into(), port: 5 });
    }

    #[test]
    fn what_leaves_the_machine_is_known() {
        let is_local = |url| Server::parse(url).unwrap().is_local();
        assert!(is_local("redis://localhost") && is_local("redis://127.1.2.3") && is_local("redis://[::1]"));
        assert!(is_local("unix:///run/redis.sock"));
        assert!(!is_local("redis://10.0.0.1") && !is_local("redis://localhost.example"));
    }

    #[test]
    fn any_other_address_is_refused_with_a_reason_that_does_not_repeat_it() {
        let cases = [
            ("127.0.0.1:6379", ServerError::Scheme),
            ("http://:s3cret@localhost", ServerError::Scheme),
            ("rediss://:s3cret@localhost", ServerError::Tls),
            ("redis://", ServerError::Host),
            ("redis://:s3cret@:6379", ServerError::Host),
            ("redis://[::1:6379", ServerError::Host),
            ("redis://localhost:s3cret", ServerError::Port),
            ("redis://localhost:0", ServerError::Port),
            ("redis://[::1]6379", ServerError::Port),
            ("redis://localhost/s3cret", ServerError::Database),
            ("redis://localhost/0?tls=s3cret", ServerError::Option),
            ("unix://run/redis.sock", ServerError::Path),
            ("unix://", ServerError::Path),
            ("unix:///", ServerError::Path),
            ("unix:///redis.sock?pass=s3cret", ServerError::Option),
            ("redis://:s3cret%4@localhost", ServerError::Encoding),
            ("redis://:s3cret%ff@localhost", ServerError::Encoding),
        ];
        for (url, error) in cases {
            assert_eq!(Server::parse(url), Err(error), "{url}");
            assert!(!error.to_string().contains("s3cret"));
        }
    }
}
