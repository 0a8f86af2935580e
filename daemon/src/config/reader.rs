//! Reading of sections: every key has a path, a kind, an allowed range, and an override from the
//! environment; every mistake is collected.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgeward_base::units::{ByteCount, format_duration, parse_duration};
use toml::Value;

use super::ConfigError;

/// Where values come from and what went wrong with them.
pub(super) struct Reader<'a> {
    root: toml::Table,
    /// The folder of the configuration file: where relative paths start.
    folder: PathBuf,
    env: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<ConfigError>,
    /// Keys of each section that was read.
    known: BTreeMap<String, Vec<&'static str>>,
}

/// How a key is written in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Flag,
    Number,
    /// A number of bytes, or a text with a unit.
    Size,
}

/// One section, such as `[server]`.
pub(super) struct Section<'r, 'a> {
    reader: &'r mut Reader<'a>,
    path: String,
    table: toml::Table,
    /// The keys that were read of an entry of a list. The environment overrides the list, not them.
    entry: Option<Vec<&'static str>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        text: &str,
        folder: &Path,
        env: &'a dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, toml::de::Error> {
        Ok(Self {
            root: text.parse()?,
            folder: folder.to_path_buf(),
            env,
            errors: Vec::new(),
            known: BTreeMap::new(),
        })
    }

    /// Reads the keys of one section; `path` has dots for a section inside another.
    pub(super) fn section<T>(
        &mut self,
        path: &'static str,
        read: impl FnOnce(&mut Section<'_, 'a>) -> T,
    ) -> T {
        let table = self.table(path);
        self.known.entry(path.to_owned()).or_default();
        let mut section = Section {
            reader: self,
            path: path.to_owned(),
            table,
            entry: None,
        };
        read(&mut section)
    }

    /// A mistake that is not in the spelling of one key.
    pub(super) fn refuse(
        &mut self,
        key: &str,
        problem: impl fmt::Display,
        allowed: impl fmt::Display,
    ) {
        self.errors.push(ConfigError::Key {
            key: key.to_owned(),
            problem: problem.to_string(),
            allowed: allowed.to_string(),
        });
    }

    /// All errors, those of keys that nobody read among them. Also the paths of all keys.
    pub(super) fn finish(mut self) -> (Vec<ConfigError>, Vec<String>) {
        let root = std::mem::take(&mut self.root);
        self.find_unknown("", &root);
        let paths = self
            .known
            .iter()
            .flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}")));
        (self.errors, paths.collect())
    }

    fn table(&mut self, path: &str) -> toml::Table {
        let mut table = &self.root;
        for part in path.split('.') {
            match table.get(part) {
                Some(Value::Table(inner)) => table = inner,
                // What is no table is told by the search for unknown keys.
                _ => return toml::Table::new(),
            }
        }
        table.clone()
    }

    fn find_unknown(&mut self, path: &str, table: &toml::Table) {
        let joined = |key: &str| {
            if path.is_empty() {
                key.to_owned()
            } else {
                format!("{path}.{key}")
            }
        };
        for (key, value) in table {
            let full = joined(key);
            let is_key = self
                .known
                .get(path)
                .is_some_and(|keys| keys.contains(&key.as_str()));
            let is_section = self
                .known
                .keys()
                .any(|section| *section == full || section.starts_with(&format!("{full}.")));
            match value {
                _ if is_key => {}
                Value::Table(inner) if is_section => self.find_unknown(&full, inner),
                _ if is_section => self.refuse(&full, "is a section", "[section] with keys"),
                _ => {
                    let known = self.known_in(path);
                    self.errors
                        .push(ConfigError::UnknownKey { key: full, known });
                }
            }
        }
    }

    /// What may stand in a section, for the error that says what may not.
    fn known_in(&self, path: &str) -> Vec<String> {
        let keys = self
            .known
            .get(path)
            .into_iter()
            .flatten()
            .map(|key| (*key).to_owned());
        let depth = if path.is_empty() {
            0
        } else {
            path.split('.').count()
        };
        let inside = self
            .known
            .keys()
            .filter(|section| path.is_empty() || section.starts_with(&format!("{path}.")));
        let mut sections: Vec<String> = inside
            .filter_map(|section| section.split('.').nth(depth))
            .map(|name| format!("[{name}]"))
            .collect();
        sections.dedup();
        keys.chain(sections).collect()
    }
}

impl Section<'_, '_> {
    /// The path of a key in this section.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// A text of a type that can be parsed.
    pub(super) fn parsed<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.read(key, Kind::Text, allowed, |text| {
            parse(text).map_err(|error| error.to_string())
        })
    }

    /// Any text that is not empty.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.parsed(key, "a text that is not empty", |text| {
            if text.is_empty() {
                Err("empty")
            } else {
                Ok(text.to_owned())
            }
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, Kind::Flag, "true or false", |text| {
            text.parse().map_err(|_| format!("{text:?} is neither"))
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let allowed: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        self.parsed(key, &allowed.join(" or "), |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found
                .map(|(_, value)| *value)
                .ok_or_else(|| format!("unknown word {text:?}"))
        })
    }

    /// A number in a range.
    pub(super) fn number(&mut self, key: &'static str, least: u8, most: u8) -> Option<u8> {
        self.read(key, Kind::Number, &format!("{least} to {most}"), |text| {
            let number = text.parse().ok();
            let number = number.filter(|number| (least..=most).contains(number));
            number.ok_or_else(|| format!("{text} is out of range"))
        })
    }

    /// A list of tables, `[[section.key]]`; in the environment an array of them, as TOML.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_, '_>) -> T,
    ) -> Vec<T> {
        self.know(key);
        let path = self.path(key);
        let allowed = format!("[[{path}]] sections");
        let value = match (self.overriding(&path), self.table.get(key)) {
            (Some((variable, text)), _) => match format!("list = {text}").parse::<toml::Table>() {
                Ok(mut parsed) => parsed.remove("list"),
                Err(error) => {
                    self.reader.refuse(&variable, error.message(), &allowed);
                    None
                }
            },
            (None, value) => value.cloned(),
        };
        let entries = match value {
            None => Vec::new(),
            Some(Value::Array(entries)) => entries,
            Some(other) => {
                let problem = format!("of type {} where a list belongs", other.type_str());
                self.reader.refuse(&path, problem, &allowed);
                Vec::new()
            }
        };
        let mut all = Vec::new();
        for (number, entry) in (1..).zip(entries) {
            let path = format!("{path}[{number}]");
            let Value::Table(table) = entry else {
                self.reader.refuse(&path, "is no section", &allowed);
                continue;
            };
            let mut section = Section {
                reader: &mut *self.reader,
                path,
                table,
                entry: Some(Vec::new()),
            };
            all.push(read(&mut section));
            section.refuse_unknown();
        }
        all
    }

    /// Refuses the keys of an entry that nobody read.
    fn refuse_unknown(self) {
        let known = self.entry.unwrap_or_default();
        for key in self
            .table
            .keys()
            .filter(|key| !known.contains(&key.as_str()))
        {
            self.reader.errors.push(ConfigError::UnknownKey {
                key: format!("{}.{key}", self.path),
                known: known.iter().map(|key| (*key).to_owned()).collect(),
            });
        }
    }

    fn know(&mut self, key: &'static str) {
        match &mut self.entry {
            Some(known) => known.push(key),
            None => {
                let known = &mut self.reader.known;
                known.entry(self.path.clone()).or_default().push(key);
            }
        }
    }

    /// What overrides a key in the environment.
    fn overriding(&self, path: &str) -> Option<(String, String)> {
        if self.entry.is_some() {
            return None;
        }
        let variable = variable(path);
        (self.reader.env)(&variable).map(|text| (variable, text))
    }

    /// A path; a relative one starts at the configuration file's folder.
    pub(super) fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = self.parsed(key, "a path", |text| {
            if text.is_empty() {
                Err("empty")
            } else {
                Ok(PathBuf::from(text))
            }
        })?;
        Some(self.reader.folder.join(path))
    }

    /// A number of bytes in a range.
    pub(super) fn size(
        &mut self,
        key: &'static str,
        least: ByteCount,
        most: ByteCount,
    ) -> Option<ByteCount> {
        self.read(key, Kind::Size, &format!("{least} to {most}"), |text| {
            let size: ByteCount = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
            if size < least || size > most {
                Err(format!("{text} is out of range"))
            } else {
                Ok(size)
            }
        })
    }

    /// A duration in a range.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        least: Duration,
        most: Duration,
    ) -> Option<Duration> {
        let allowed = format!("{} to {}", format_duration(least), format_duration(most));
        self.read(key, Kind::Text, &allowed, |text| {
            let duration = parse_duration(text).map_err(|error| format!("{text:?}: {error}"))?;
            if duration < least || duration > most {
                Err(format!("{text} is out of range"))
            } else {
                Ok(duration)
            }
        })
    }

    /// Says that a key is missing; nothing when it is there with a value that was refused.
    pub(super) fn missing(&mut self, key: &str, allowed: impl fmt::Display) {
        let set = self.table.contains_key(key) || self.overriding(&self.path(key)).is_some();
        if !set {
            self.refuse(key, "missing", allowed);
        }
    }

    /// A path as it was written, from the configuration file's folder.
    pub(super) fn resolve(&self, text: &str) -> PathBuf {
        self.reader.folder.join(text)
    }

    /// A mistake that is not in the spelling of one key.
    pub(super) fn refuse(
        &mut self,
        key: &str,
        problem: impl fmt::Display,
        allowed: impl fmt::Display,
    ) {
        let path = self.path(key);
        self.reader.refuse(&path, problem, allowed);
    }

    fn read<T>(
        &mut self,
        key: &'static str,
        kind: Kind,
        allowed: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.know(key);
        let path = self.path(key);
        let (name, text) = match (self.overriding(&path), self.table.get(key)) {
            (Some((variable, text)), _) => (variable, Ok(text)),
            (None, Some(value)) => (path, written(value, kind)),
            (None, None) => return None,
        };
        match text.and_then(|text| parse(&text)) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.reader.refuse(&name, problem, allowed);
                None
            }
        }
    }
}

/// The environment variable that overrides a key.
pub(super) fn variable(path: &str) -> String {
    format!("EDGEWARD_{}", path.replace('.', "_").to_ascii_uppercase())
}

fn written(value: &Value, kind: Kind) -> Result<String, String> {
    match (value, kind) {
        (Value::String(text), Kind::Text | Kind::Size) => Ok(text.clone()),
        (Value::Integer(number), Kind::Size | Kind::Number) => Ok(number.to_string()),
        (Value::Boolean(flag), Kind::Flag) => Ok(flag.to_string()),
        (other, kind) => {
            let wanted = match kind {
                Kind::Text => "a text in quotes",
                Kind::Flag => "true or false, without quotes,",
                Kind::Number => "a number, without quotes,",
                Kind::Size => "a number, or a text in quotes,",
            };
            Err(format!(
                "of type {} where {wanted} belongs",
                other.type_str()
            ))
        }
    }
}
