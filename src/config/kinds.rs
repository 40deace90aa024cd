//! What a key takes: its kind, its words and bounds.
//!
//! Decides: how many of everything there may be, and how reports and `config.toml` say it. May not know: keys,
//! files. Invariant: the words of a choice and what they mean have the same order.

use super::plan::{ClientField, Engine, Format, Level};
use super::units::{show_duration, show_millionths, show_size};
use crate::policy::filter::compress::Coding;
use crate::policy::filter::jwt::Algorithm;
use crate::policy::filter::request_id::Accept;
use crate::policy::limit::{Action, Fields, WhenFull};

/// What a key takes.
#[derive(Debug)]
pub enum Kind {
    Flag,
    /// A whole number, or a word in its place.
    Whole {
        min: u64,
        max: u64,
        word: Option<&'static str>,
    },
    Duration {
        min: u64,
        max: u64,
        off: bool,
    },
    Size {
        min: u64,
        max: u64,
        /// In its place: "unlimited" has no largest number either.
        word: Option<&'static str>,
    },
    /// Bytes per second; 0B is no bound.
    Bandwidth {
        min: u64,
        max: u64,
    },
    /// Requests of a period, or "off"; in millionths.
    Rate {
        period_s: u64,
    },
    /// Whole seconds, at least one, or "off".
    Seconds {
        max: u64,
    },
    Choice(&'static [&'static str]),
    Listens,
    Admin,
    Congestion,
    Token,
    Cidrs,
    Host,
    /// Failures of attempts. A repetition has one cause less: an invalid response has begun.
    Causes {
        invalid: bool,
    },
    Statuses,
    HashKey,
    /// A token, or nothing.
    Cookie,
    Method,
    /// A path with its query.
    Target,
    /// A host with its port, or nothing.
    Authority,
    Headers,
    Text {
        max: usize,
    },
    Webhook,
    LimitKey,
    Origins,
    Methods,
    /// Names of header fields, or "*".
    CorsFields,
    /// Names of header fields of requests or responses that may be removed.
    FieldNames {
        request: bool,
    },
    /// The name of one of our own, or nothing.
    OwnField,
    /// Header fields with templates.
    Edits {
        request: bool,
    },
    /// A text for a quoted string of a field.
    Word {
        max: usize,
    },
    /// Several of them.
    Words {
        max: usize,
    },
    ClusterName,
    Codings,
    MediaTypes,
    /// Parts of a request.
    CacheKey,
    /// Statuses, each with a duration.
    StatusTtls,
    /// Names of parameters of a query, or their beginnings.
    Parameters,
    Users,
    ApiKeys,
    Verifier(Verifier),
    /// The tree itself: clusters, routes, backends and their names. Read by `file`, no generic value.
    Structure,
}

/// What tokens are verified with, as a text or in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verifier {
    Secret,
    /// A public key.
    Pem,
    /// A set of keys.
    Jwks,
}

pub const LEVELS: [Level; 4] = [Level::Error, Level::Warn, Level::Info, Level::Debug];
pub const LEVEL_NAMES: [&str; 4] = ["error", "warn", "info", "debug"];
pub const FORMATS: [Format; 2] = [Format::Json, Format::Combined];
pub const FORMAT_NAMES: [&str; 2] = ["json", "combined"];
pub const ENGINES: [Engine; 3] = [Engine::Auto, Engine::IoUring, Engine::Epoll];
pub const ENGINE_NAMES: [&str; 3] = ["auto", "io_uring", "epoll"];
pub const ACTIONS: [Action; 2] = [Action::Reject, Action::Delay];
pub const ACTION_NAMES: [&str; 2] = ["reject", "delay"];
pub const MODE_NAMES: [&str; 2] = ["exact", "leased"];
pub const FIELDS: [Fields; 4] = [Fields::Draft, Fields::Legacy, Fields::Both, Fields::Off];
pub const FIELDS_NAMES: [&str; 4] = ["draft", "legacy", "both", "off"];
pub const WHEN_FULLS: [WhenFull; 2] = [WhenFull::Reject, WhenFull::Allow];
pub const WHEN_FULL_NAMES: [&str; 2] = ["reject", "allow"];
pub const ACCEPTS: [Accept; 3] = [Accept::Trusted, Accept::Never, Accept::Always];
pub const ACCEPT_NAMES: [&str; 3] = ["trusted", "never", "always"];
pub const CLIENT_FIELDS: [ClientField; 2] = [ClientField::XForwardedFor, ClientField::Forwarded];
pub const CLIENT_FIELD_NAMES: [&str; 2] = ["x_forwarded_for", "forwarded"];
/// The first leaves it to the key.
pub const JWT_ALGORITHMS: [Option<Algorithm>; 5] = [
    None,
    Some(Algorithm::Hs256),
    Some(Algorithm::Rs256),
    Some(Algorithm::Es256),
    Some(Algorithm::EdDsa),
];
pub const JWT_ALGORITHM_NAMES: [&str; 5] = ["", "HS256", "RS256", "ES256", "EdDSA"];
pub const CODINGS: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];
pub const CODING_NAMES: [&str; 3] = ["zstd", "br", "gzip"];
pub const CHOOSINGS: [Choosing; 8] = [
    // Smooth weighted round robin is plain where weights are equal.
    Choosing::RoundRobin,
    Choosing::RoundRobin,
    Choosing::LeastConnections,
    Choosing::PowerOfTwo,
    Choosing::IpHash,
    Choosing::ConsistentHash,
    Choosing::Random,
    Choosing::PeakEwma,
];
pub const CHOOSING_NAMES: [&str; 8] = [
    "round_robin",
    "weighted_round_robin",
    "least_connections",
    "p2c",
    "ip_hash",
    "consistent_hash",
    "random",
    "peak_ewma",
];
pub const ALL_DOWNS: [AllDown; 2] = [AllDown::Fail, AllDown::Open];
pub const ALL_DOWN_NAMES: [&str; 2] = ["fail", "open"];
pub const CHECK_TYPES: [CheckType; 3] = [CheckType::Off, CheckType::Tcp, CheckType::Http];
pub const CHECK_TYPE_NAMES: [&str; 3] = ["off", "tcp", "http"];

/// What `load_balancer.algorithm` says; other keys make an algorithm of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choosing {
    RoundRobin,
    LeastConnections,
    PowerOfTwo,
    IpHash,
    ConsistentHash,
    Random,
    PeakEwma,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllDown {
    Fail,
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckType {
    Off,
    Tcp,
    Http,
}

pub const LISTENS_MAX: usize = 64;
pub const CIDRS_MAX: usize = 4096;
pub const BACKENDS_MAX: usize = 10_000;
pub const CLUSTERS_MAX: usize = 10_000;
pub const ROUTES_MAX: usize = 50_000;
pub const HOSTS_MAX: usize = 1000;
pub const METHODS_MAX: usize = 64;
pub const SPLIT_MAX: usize = 64;
/// Words of one list of causes or statuses.
pub const CAUSES_MAX: usize = 32;
pub const HEADERS_MAX: usize = 16;
pub const HEADER_BYTES_MAX: usize = 1024;
/// Fields that one list sets, adds, removes or allows.
pub const FIELDS_MAX: usize = 64;
pub const ORIGINS_MAX: usize = 256;
pub const USERS_MAX: usize = 10_000;
pub const API_KEYS_MAX: usize = 1024;
/// An API key as it is, not its digest: shorter ones can be guessed.
pub const API_KEY_BYTES_MIN: usize = 16;
/// Issuers, audiences, media types.
pub const WORDS_MAX: usize = 64;
/// Conditions of one kind in a route.
pub const CONDITIONS_MAX: usize = 16;
pub const PRIORITY_MAX: i32 = 1000;
pub const PERCENT: (u32, u32) = (1, 100);
/// Error pages of one list.
pub const PAGES_MAX: usize = 64;
/// Parts of one limit's key.
pub const KEY_PARTS_MAX: usize = 8;
/// Parts of the key of what is stored.
pub const CACHE_PARTS_MAX: usize = 16;
/// Names of parameters in one list.
pub const PARAMETERS_MAX: usize = 64;
/// Stored responses: a table of so many takes several GiB.
pub const ENTRIES_MAX: u64 = 1 << 28;
/// A response is stored in one piece.
pub const OBJECT_BYTES_MAX: u64 = 1 << 30;
/// Ten years: nothing that is stored lives so long.
pub const TTL_MAX_NS: u64 = 3650 * DAY_S * 1_000_000_000;
/// Limits of one list.
pub const LIMITS_MAX: usize = 16;
/// Limits of the process: each has tables in each shard.
pub const ALL_LIMITS_MAX: usize = 10_000;
pub const WEIGHT_MAX: u64 = 65_535;

const MILLION: u64 = 1_000_000;
const DAY_S: u64 = 86_400;

impl Kind {
    /// The word for no value.
    pub fn unset(&self) -> &'static str {
        if let Kind::Whole { word, .. } | Kind::Size { word, .. } = self {
            word.unwrap_or("")
        } else if matches!(self, Kind::Admin | Kind::Rate { .. }) {
            "off"
        } else {
            ""
        }
    }

    /// A number of this kind, as TOML.
    pub fn number(&self, number: u64) -> String {
        if let Kind::Seconds { .. } | Kind::Duration { off: true, .. } = self
            && number == 0
        {
            "\"off\"".to_owned()
        } else if let Kind::Duration { .. } | Kind::Seconds { .. } = self {
            format!("\"{}\"", show_duration(number))
        } else if let Kind::Size { .. } | Kind::Bandwidth { .. } = self {
            format!("\"{}\"", show_size(number))
        } else if let Kind::Rate { .. } = self {
            show_millionths(number)
        } else {
            number.to_string()
        }
    }

    /// The least and the most of a rate, in millionths: one request a day, one a microsecond.
    pub fn rates(period_s: u64) -> (u64, u64) {
        let least = (period_s * MILLION).div_ceil(DAY_S);
        (least, period_s * MILLION * MILLION)
    }

    /// What the key takes, with its bounds, as reports and `config.toml` say it.
    #[expect(clippy::too_many_lines, reason = "one arm for each kind")]
    pub fn bounds(&self) -> String {
        match self {
            Kind::Flag => "true or false".to_owned(),
            Kind::Whole {
                min,
                max,
                word: None,
            } => format!("{min} to {max}"),
            Kind::Whole {
                min,
                max,
                word: Some(word),
            } => format!("\"{word}\" or {min} to {max}"),
            Kind::Duration { min, max, off } => {
                let off = if *off { "\"off\" or " } else { "" };
                format!("{off}{} to {}", show_duration(*min), show_duration(*max))
            }
            Kind::Size {
                min,
                word: Some("unlimited"),
                ..
            } => format!("\"unlimited\" or {} and more", show_size(*min)),
            Kind::Size { min, max, word } => {
                let word = word.map_or(String::new(), |word| format!("\"{word}\" or "));
                format!("{word}{} to {}", show_size(*min), show_size(*max))
            }
            Kind::Bandwidth { min, max } => {
                format!("0B or {} to {}", show_size(*min), show_size(*max))
            }
            Kind::Rate { period_s } => {
                let (least, most) = Kind::rates(*period_s);
                let (least, most) = (show_millionths(least), show_millionths(most));
                format!("\"off\" or {least} to {most}")
            }
            Kind::Choice(names) => quoted(names),
            Kind::Listens => format!(
                "\"ip:port\", \"[v6]:port\", \"unix:/path\" or a list of up to {LISTENS_MAX}"
            ),
            Kind::Admin => "\"ip:port\" or \"off\"".to_owned(),
            Kind::Congestion => "a name such as \"cubic\", up to 15 characters".to_owned(),
            Kind::Token => "a token of 1 to 64 characters".to_owned(),
            Kind::Cidrs => {
                format!("a list of addresses and blocks such as \"10.0.0.0/8\", up to {CIDRS_MAX}")
            }
            Kind::Host => "\"pass\", \"backend\" or { fixed = \"example.org\" }".to_owned(),
            Kind::Seconds { max } => format!("\"off\" or 1s to {}", show_duration(*max)),
            Kind::Causes { invalid } => {
                let invalid = if *invalid { ", \"invalid\"" } else { "" };
                let timeout = "\"connect\", \"closed\", \"timeout\"";
                format!("a list of {timeout}{invalid}, \"5xx\", \"503\" or \"500-504\"")
            }
            Kind::Statuses => "a list of \"2xx\", \"204\" or \"200-299\"".to_owned(),
            Kind::HashKey => "\"ip\", \"path\", \"header:NAME\" or \"cookie:NAME\"".to_owned(),
            Kind::Cookie => "a token of up to 64 characters".to_owned(),
            Kind::Method => "a method such as \"GET\"".to_owned(),
            Kind::Target => "a path such as \"/healthz\"".to_owned(),
            Kind::Authority => "a host such as \"example.org\"".to_owned(),
            Kind::Headers => format!("a list of \"Name: value\", up to {HEADERS_MAX}"),
            Kind::Text { max } => format!("a text of up to {max} bytes"),
            Kind::Webhook => "\"http://host:port/path\"".to_owned(),
            Kind::LimitKey => format!(
                "\"all\", or a list of \"ip\", \"route\", \"path\", \"user\", \"header:NAME\" and \"cookie:NAME\", up to {KEY_PARTS_MAX}"
            ),
            Kind::Origins => format!(
                "a list of \"https://a.example\", \"https://*.a.example\", \"*.a.example\" or \"*\", up to {ORIGINS_MAX}"
            ),
            Kind::Methods => format!("a list of methods such as \"GET\", up to {METHODS_MAX}"),
            Kind::CorsFields => {
                format!("a list of names of header fields, up to {FIELDS_MAX}, or \"*\"")
            }
            Kind::FieldNames { .. } => {
                format!("a list of names of header fields, up to {FIELDS_MAX}")
            }
            Kind::OwnField => "the name of a header field".to_owned(),
            Kind::Edits { .. } => format!("a list of \"Name: value\", up to {FIELDS_MAX}"),
            Kind::Word { max } => {
                format!("1 to {max} visible characters or spaces, no quotes")
            }
            Kind::Words { max } => {
                format!("a list of texts of up to {max} characters, up to {WORDS_MAX}")
            }
            Kind::ClusterName => "the name of a cluster".to_owned(),
            Kind::Codings => format!("a list of {}", quoted(&CODING_NAMES)),
            Kind::MediaTypes => {
                format!("a list of \"text/html\" or \"text/*\", up to {WORDS_MAX}")
            }
            Kind::CacheKey => format!(
                "a list of \"scheme\", \"host\", \"path\", \"query\", \"header:NAME\" and \"cookie:NAME\", up to {CACHE_PARTS_MAX}"
            ),
            Kind::StatusTtls => {
                format!("a list of \"404: 10s\" or \"301 308: 1h\", up to {CAUSES_MAX}")
            }
            Kind::Parameters => {
                format!("a list of names of parameters, up to {PARAMETERS_MAX}")
            }
            Kind::Users => {
                format!("a list of \"name:hash\" or \"file:/path\", up to {USERS_MAX}")
            }
            Kind::ApiKeys => format!(
                "a list of \"name:key\", \"name:sha256:HEX\" or \"file:/path\", up to {API_KEYS_MAX}"
            ),
            Kind::Verifier(Verifier::Secret) => "a text or \"file:/path\"".to_owned(),
            Kind::Verifier(Verifier::Pem) => "a text in PEM or \"file:/path\"".to_owned(),
            Kind::Verifier(Verifier::Jwks) => "\"file:/path\" or a text in JSON".to_owned(),
            Kind::Structure => String::new(),
        }
    }
}

/// `"a", "b" or "c"`.
fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}
