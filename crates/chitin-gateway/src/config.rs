//! Configuration: raw TOML turned into valid values, or refused with the key, what is allowed, and the nearest right
//! key for a mistyped one.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use chitin_cache::Server;
use chitin_core::{Limits, LimitsError, bounds};
use chitin_shim::groups::TierKind;

/// Where the gateway listens if nobody says.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7411";

/// The word for the best means of isolation there are.
const BEST: &str = "best";

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The TCP address; `None`: the Unix socket alone.
    pub listen: Option<SocketAddr>,
    /// The means that hold process trees to their limits; `None`: the best there are.
    pub isolation: Option<TierKind>,
    /// The Redis server that keeps results; `None`: this process's memory does.
    pub redis: Option<Server>,
    /// All limits.
    pub limits: Limits,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It was named and cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not TOML.
    #[error("the configuration {path} is not valid TOML: {detail}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, and what.
        detail: String,
    },
    /// A key nobody knows.
    #[error("the configuration {path} has an unknown key `{key}`{}", hint(.nearest.as_deref()))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key, with its table.
        key: String,
        /// The nearest key there is.
        nearest: Option<String>,
    },
    /// An address that is not allowed, given beside the configuration.
    #[error("--listen {detail}")]
    Listen {
        /// The address and what is allowed.
        detail: String,
    },
    /// A value that is not allowed.
    #[error("the configuration {path}: {detail}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, its value and what is allowed.
        detail: String,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|key| format!("; did you mean `{key}`?")).unwrap_or_default()
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: DEFAULT_LISTEN.parse().ok(), isolation: None, redis: None, limits: Limits::default() }
    }
}

/// Reads `path`, or `chitin.toml` in the data directory if there is one; nothing at all means the defaults.
///
/// # Errors
/// See [`ConfigError`].
pub fn load(path: Option<&Path>, data_dir: &Path) -> Result<Config, ConfigError> {
    let (path, must_exist) = match path {
        Some(path) => (path.to_owned(), true),
        None => (data_dir.join("chitin.toml"), false),
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        // Whether the data directory can be made at all is not the configuration's to say.
        Err(error)
            if !must_exist
                && matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Config::default());
        }
        Err(source) => return Err(ConfigError::Read { path, source }),
    };
    parse(&text, &path)
}

/// Parses a configuration's text; `path` is for messages.
///
/// # Errors
/// See [`ConfigError`].
pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
        path: path.to_owned(),
        detail: syntax(text, &error),
    })?;
    let mut config = Config::default();
    for (key, value) in &table {
        match (key.as_str(), value) {
            ("listen", toml::Value::String(address)) => {
                config.listen = parse_listen(address).map_err(|detail| ConfigError::Value {
                    path: path.to_owned(),
                    detail: format!("`listen` {detail}"),
                })?;
            }
            ("isolation", toml::Value::String(name)) => {
                config.isolation = parse_isolation(name)
                    .map_err(|detail| ConfigError::Value { path: path.to_owned(), detail })?;
            }
            ("cache", toml::Value::Table(cache)) => set_cache(&mut config, cache, path)?,
            ("limits", toml::Value::Table(limits)) => set_limits(&mut config.limits, limits, path)?,
            (key @ ("listen" | "isolation"), other) => return Err(wrong_type(path, key, "a string", other)),
            ("cache", other) => return Err(wrong_type(path, "cache", "a table", other)),
            ("limits", other) => return Err(wrong_type(path, "limits", "a table", other)),
            (unknown, _) => {
                return Err(unknown_key(path, unknown, &["listen", "isolation", "cache", "limits"], ""));
            }
        }
    }
    Ok(config)
}

fn parse_isolation(name: &str) -> Result<Option<TierKind>, String> {
    let kind = TierKind::ALL.into_iter().find(|kind| kind.name() == name);
    if kind.is_none() && name != BEST {
        let names = TierKind::ALL.map(TierKind::name).join("\", \"");
        return Err(format!(
            "`isolation` is \"{}\"; allowed are \"{BEST}\", \"{names}\"",
            name.escape_default()
        ));
    }
    Ok(kind)
}

/// An address, or `none` for the Unix socket alone.
///
/// # Errors
/// Anything else, and addresses beyond loopback, which would need TLS: what is wrong and what is allowed, as the end of
/// a sentence that begins with the name of the key or option.
pub fn parse_listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "none" {
        return Ok(None);
    }
    let address: SocketAddr = text.replace("localhost", "127.0.0.1").parse().map_err(|_| {
        format!(
            "is \"{}\"; an IP address with a port is needed, \"{DEFAULT_LISTEN}\", or \"none\"",
            text.escape_default()
        )
    })?;
    if !address.ip().is_loopback() {
        return Err(format!(
            "is \"{address}\", which other machines can reach: that needs TLS, which is not supported yet; use a loopback address"
        ));
    }
    Ok(Some(address))
}

/// What is wrong, and the line where; but a line that may hold a password is only counted.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count();
    if text.lines().nth(line).is_some_and(|line| line.contains("://") || line.contains('@')) {
        return format!("line {}: {}", line + 1, error.message());
    }
    error.to_string().trim_end().to_owned()
}

fn set_cache(config: &mut Config, table: &toml::Table, path: &Path) -> Result<(), ConfigError> {
    for (key, value) in table {
        match (key.as_str(), value) {
            ("redis", toml::Value::String(url)) => {
                let server = Server::parse(url).map_err(|error| ConfigError::Value {
                    path: path.to_owned(),
                    detail: format!("`cache.redis` {error}"),
                })?;
                config.redis = Some(server);
            }
            ("redis", other) => return Err(wrong_type(path, "cache.redis", "a string", other)),
            (unknown, _) => return Err(unknown_key(path, unknown, &["redis"], "cache.")),
        }
    }
    Ok(())
}

fn set_limits(limits: &mut Limits, table: &toml::Table, path: &Path) -> Result<(), ConfigError> {
    for (key, value) in table {
        let number = match value {
            toml::Value::Integer(number) => *number,
            other => return Err(wrong_type(path, &format!("limits.{key}"), "a whole number", other)),
        };
        // A negative number is below every range: let the range say so.
        let set = limits.set(key, u64::try_from(number).unwrap_or(0));
        match set {
            Ok(()) => {}
            Err(LimitsError::Unknown { key }) => {
                let keys: Vec<&str> = bounds().iter().map(|bound| bound.key).collect();
                return Err(unknown_key(path, &key, &keys, "limits."));
            }
            Err(LimitsError::OutOfRange { key, min, max, unit, .. }) => {
                let detail = format!("`limits.{key}` is {number}; allowed are {min} to {max} {unit}");
                return Err(ConfigError::Value { path: path.to_owned(), detail });
            }
        }
    }
    Ok(())
}

fn wrong_type(path: &Path, key: &str, wanted: &str, found: &toml::Value) -> ConfigError {
    let detail = format!("`{key}` is {} {}; {wanted} is needed", article(found.type_str()), found.type_str());
    ConfigError::Value { path: path.to_owned(), detail }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

fn unknown_key(path: &Path, key: &str, known: &[&str], prefix: &str) -> ConfigError {
    let nearest =
        known.iter().max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)));
    ConfigError::UnknownKey {
        path: path.to_owned(),
        key: format!("{prefix}{key}"),
        nearest: nearest.map(|near| format!("{prefix}{near}")),
    }
}

impl fmt::Display for Config {
    /// The configuration in force, as TOML, every limit with its unit. A password is shown as `***`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.listen {
            Some(address) => writeln!(f, "listen = \"{address}\"")?,
            None => writeln!(f, "listen = \"none\"")?,
        }
        writeln!(f, "isolation = \"{}\"", self.isolation.map_or(BEST, TierKind::name))?;
        if let Some(server) = &self.redis {
            writeln!(f, "\n[cache]\nredis = \"{server}\"")?;
        }
        writeln!(f, "\n[limits]")?;
        self.limits
            .values()
            .iter()
            .try_for_each(|(bound, value)| writeln!(f, "{} = {value} # {}", bound.key, bound.unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text, Path::new("c.toml")).unwrap_err().to_string()
    }

    #[test]
    fn every_wrong_configuration_says_what_is_right() {
        assert_eq!(
            error("lisen = 'x'"),
            "the configuration c.toml has an unknown key `lisen`; did you mean `listen`?"
        );
        assert_eq!(
            error("[limits]\nrunning_task = 2"),
            "the configuration c.toml has an unknown key `limits.running_task`; did you mean `limits.running_tasks`?"
        );
        assert_eq!(
            error("[limits]\nrunning_tasks = -1"),
            "the configuration c.toml: `limits.running_tasks` is -1; allowed are 1 to 1000 attempts"
        );
        assert_eq!(
            error("[limits]\nrunning_tasks = 'many'"),
            "the configuration c.toml: `limits.running_tasks` is a string; a whole number is needed"
        );
        assert_eq!(
            error("listen = '0.0.0.0:1'"),
            "the configuration c.toml: `listen` is \"0.0.0.0:1\", which other machines can reach: that needs TLS, which is not supported yet; use a loopback address"
        );
        assert_eq!(
            error("isolation = 'cgroup3'"),
            "the configuration c.toml: `isolation` is \"cgroup3\"; allowed are \"best\", \"cgroup2\", \"cgroup1\", \"rlimit\""
        );
        assert!(error("listen = ").starts_with("the configuration c.toml is not valid TOML: "));
        assert_eq!(
            error("[cache]\nredi = 'x'"),
            "the configuration c.toml has an unknown key `cache.redi`; did you mean `cache.redis`?"
        );
        assert_eq!(
            error("cache = 'redis://localhost'"),
            "the configuration c.toml: `cache` is a string; a table is needed"
        );
    }

    #[test]
    fn no_password_is_ever_repeated() {
        for text in [
            "[cache]\nredis = \"redis://:s3cret@localhost",
            "[cache]\nredis = redis://:s3cret@localhost",
            "[cache]\nredis = 'rediss://:s3cret@localhost'",
            "[cache]\nredis = 'http://:s3cret@localhost'",
            "[cache]\nredis = ['redis://:s3cret@localhost']",
        ] {
            let error = error(text);
            assert!(!error.contains("s3cret"), "{error}");
        }
        let config = parse("[cache]\nredis = 'redis://me:s3cret@localhost'", Path::new("c.toml")).unwrap();
        assert!(!format!("{config:?} {config}").contains("s3cret"));
        assert!(config.to_string().contains("\n[cache]\nredis = \"redis://me:***@localhost:6379/0\"\n"));
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        let mut config = Config::default();
        config.limits.running_tasks = 7;
        config.listen = None;
        config.isolation = Some(TierKind::Rlimit);
        let again = parse(&config.to_string(), Path::new("c.toml")).unwrap();
        assert_eq!(again.limits, config.limits);
        assert_eq!((again.listen, again.isolation), (None, Some(TierKind::Rlimit)));
    }
}
