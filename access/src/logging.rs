//! What the process says while it works, and changing how much while it runs.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

/// The section `logging` of a configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Logging {
    /// One line of JSON an event, or text for people.
    pub format: Format,
    /// Target to level, for example `namesrv: debug`. The target `default` is all others; its default is `info`.
    pub levels: BTreeMap<String, String>,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Format {
    /// For log collectors.
    Json,
    /// For people.
    #[default]
    Text,
}

/// A level that does not exist, or logging that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such level.
    #[error("logging level {level:?} of {target}: use off, error, warn, info, debug or trace")]
    UnknownLevel {
        /// Whose level it was to be.
        target: String,
        /// What was asked for.
        level: String,
    },
    /// Somebody else has set up logging for this process.
    #[error("logging is set up already in this process")]
    AlreadySetUp,
}

/// Changes levels of a running process. Clones act on the same process.
#[derive(Clone)]
pub struct Control {
    levels: Arc<Mutex<BTreeMap<String, LevelFilter>>>,
    apply: Arc<dyn Fn(Targets) + Send + Sync>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("levels", &*self.levels.lock()).finish_non_exhaustive()
    }
}

impl Control {
    /// Sets these levels and keeps the others. Changes nothing if one of them is wrong.
    pub fn set<'a>(&self, levels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<(), Error> {
        let parsed = parse_levels(levels)?;
        let mut current = self.levels.lock();
        current.extend(parsed);
        (self.apply)(targets(&current));
        Ok(())
    }
}

/// Sets up logging of this process, to standard error.
pub fn init(config: &Logging) -> Result<Control, Error> {
    let levels = parse_levels(&config.levels)?;
    let (filter, handle) = reload::Layer::<Targets, Registry>::new(targets(&levels));
    // Colours are for a terminal; a pod's log, or a file, wants the words only.
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let lines: Box<dyn Layer<_> + Send + Sync> = match config.format {
        Format::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
        Format::Text => lines.boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| Error::AlreadySetUp)?;
    let apply = move |targets| {
        // Fails only when the subscriber is gone, and it is global.
        handle.reload(targets).ok();
    };
    Ok(Control { levels: Arc::new(Mutex::new(levels)), apply: Arc::new(apply) })
}

/// Whether all levels of `config` exist; for reporting mistakes before anything is set up.
pub fn check(config: &Logging) -> Result<(), Error> {
    parse_levels(&config.levels).map(drop)
}

fn parse_levels<'a>(
    levels: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<BTreeMap<String, LevelFilter>, Error> {
    levels
        .into_iter()
        .map(|(target, level)| match level.parse::<LevelFilter>() {
            // Numbers are levels to the parser, but not to people.
            Ok(filter) if level.chars().all(char::is_alphabetic) && !level.is_empty() => {
                Ok((target.clone(), filter))
            }
            _ => Err(Error::UnknownLevel { target: target.clone(), level: level.clone() }),
        })
        .collect()
}

fn targets(levels: &BTreeMap<String, LevelFilter>) -> Targets {
    let default = levels.get("default").copied().unwrap_or(LevelFilter::INFO);
    Targets::new()
        .with_targets(
            levels.iter().filter(|(target, _)| *target != "default").map(|(t, level)| (t.clone(), *level)),
        )
        .with_default(default)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn levels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(target, level)| ((*target).to_owned(), (*level).to_owned())).collect()
    }

    #[test]
    fn levels_change_for_one_target_and_stay_for_the_others() {
        let applied = Arc::new(Mutex::new(Targets::new()));
        let seen = applied.clone();
        let control =
            Control { levels: Arc::default(), apply: Arc::new(move |targets| *seen.lock() = targets) };
        control.set(&levels(&[("namesrv", "debug")])).unwrap();
        control.set(&levels(&[("default", "warn")])).unwrap();
        let now = applied.lock().clone();
        assert!(now.would_enable("namesrv::table", &Level::DEBUG));
        assert!(!now.would_enable("h2", &Level::INFO));

        let error = control.set(&levels(&[("namesrv", "trace"), ("x", "loud")])).unwrap_err();
        assert!(error.to_string().contains("loud"));
        assert!(!applied.lock().would_enable("namesrv", &Level::TRACE), "nothing changes on a mistake");
    }

    #[test]
    fn a_level_is_a_word() {
        for bad in ["", "3", "verbose", "info,debug"] {
            assert!(
                check(&Logging { levels: levels(&[("a", bad)]), ..Logging::default() }).is_err(),
                "{bad:?}"
            );
        }
        for good in ["off", "error", "WARN", "Info", "debug", "trace"] {
            assert!(
                check(&Logging { levels: levels(&[("a", good)]), ..Logging::default() }).is_ok(),
                "{good:?}"
            );
        }
    }
}
