//! From a template and a setup to a configuration.
//!
//! Decides: which lines of a template stay, and how often. May not know: what they mean. Invariant: a line that begins
//! with a word stays or goes by that word alone, so that a template reads like the configuration that it becomes.

use super::{Feature, ORIGIN, Setup};

/// The word that a line of a template may begin with, as in `@LOG@ line`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    Always,
    /// For root only.
    Root,
    Log,
    NoLog,
    Cache,
    Limit,
    Filters,
    /// At any level.
    Gzip,
    GzipAlike,
    /// The one route that matches everything.
    OneRoute,
    /// More than one.
    Routes,
    /// Lines in a row are repeated as one block.
    EachBackend,
    /// The same, if there is more than one.
    EachRoute,
}

const GUARDS: [(&str, Guard); 12] = [
    ("@ROOT@ ", Guard::Root),
    ("@LOG@ ", Guard::Log),
    ("@NO_LOG@ ", Guard::NoLog),
    ("@CACHE@ ", Guard::Cache),
    ("@LIMIT@ ", Guard::Limit),
    ("@FILTERS@ ", Guard::Filters),
    ("@GZIP@ ", Guard::Gzip),
    ("@GZIP_ALIKE@ ", Guard::GzipAlike),
    ("@ONE_ROUTE@ ", Guard::OneRoute),
    ("@ROUTES@ ", Guard::Routes),
    ("@EACH_BACKEND@ ", Guard::EachBackend),
    ("@EACH_ROUTE@ ", Guard::EachRoute),
];

/// Fills in a template.
pub(super) fn fill(template: &str, setup: &Setup) -> String {
    let mut lines = template.lines().map(guarded).peekable();
    let mut text = String::new();
    while let Some((guard, line)) = lines.next() {
        let mut block = format!("{line}\n");
        while let Some((_, line)) = lines.next_if(|(next, _)| *next == guard) {
            block.push_str(line);
            block.push('\n');
        }
        append(&mut text, guard, &block, setup);
    }
    let backend = setup.backend();
    for (word, value) in [
        ("@LISTEN@", setup.listen.to_string()),
        ("@LISTEN_IP@", setup.listen.ip().to_string()),
        ("@LISTEN_PORT@", setup.listen.port().to_string()),
        ("@ADMIN@", setup.admin.to_string()),
        ("@BACKEND_IP@", backend.ip().to_string()),
        ("@BACKEND_PORT@", backend.port().to_string()),
        ("@ORIGIN@", ORIGIN.to_owned()),
        ("@DIRECTORY@", setup.directory.display().to_string()),
        ("@CLIENTS_MAX@", setup.clients_max().to_string()),
        ("@IDLE_MAX@", setup.idle_max().to_string()),
        ("@CONNECTIONS_MAX@", setup.connections_all().to_string()),
        ("@DESCRIPTORS@", setup.descriptors().to_string()),
    ] {
        text = text.replace(word, &value);
    }
    text
}

fn guarded(line: &str) -> (Guard, &str) {
    let mut found = GUARDS.iter();
    found
        .find_map(|(word, guard)| Some((*guard, line.strip_prefix(word)?)))
        .unwrap_or((Guard::Always, line))
}

fn append(text: &mut String, guard: Guard, block: &str, setup: &Setup) {
    let is_kept = match guard {
        Guard::Always => true,
        Guard::Root => rustix::process::geteuid().is_root(),
        Guard::Log => setup.feature == Feature::AccessLog,
        Guard::NoLog => setup.feature != Feature::AccessLog,
        Guard::Cache => setup.feature == Feature::Cache,
        Guard::Limit => setup.feature == Feature::Limit,
        Guard::Filters => setup.feature == Feature::Filters,
        Guard::Gzip => matches!(setup.feature, Feature::Gzip | Feature::GzipAlike),
        Guard::GzipAlike => setup.feature == Feature::GzipAlike,
        Guard::OneRoute => setup.routes == 1,
        Guard::Routes => setup.routes > 1,
        Guard::EachBackend => {
            for (number, backend) in setup.backends.iter().enumerate() {
                let block = block.replace("@BACKEND@", &backend.to_string());
                text.push_str(&block.replace("@NUMBER@", &number.to_string()));
            }
            false
        }
        Guard::EachRoute => {
            let numbers = 0..if setup.routes > 1 { setup.routes } else { 0 };
            text.extend(numbers.map(|number| block.replace("@NUMBER@", &number.to_string())));
            false
        }
    };
    if is_kept {
        text.push_str(block);
    }
}
